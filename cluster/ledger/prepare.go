package ledger

// Prepared is a command whose suppressions were named and sealed ahead, for the book of the member that proposes it. Members
// take one entry after another: what costs most of a long one is done before that, beside the others.
type Prepared struct {
	*Suppress
	rows []preparedRow // one for each of Add
}

// preparedRow is a suppression as it lies in the book: key and sealed value.
type preparedRow []byte

const suppressionKeySize = 1 + len(Place{})

func (r preparedRow) key() []byte    { return r[:suppressionKeySize:suppressionKeySize] }
func (r preparedRow) sealed() []byte { return r[suppressionKeySize:] }
func (r preparedRow) place() Place   { return Place(r[1:suppressionKeySize]) }

// prepareFrom is how many suppressions a command must have to be worth it.
const prepareFrom = 64

// Prepare prepares a command that is to be an Entry of a store with this box, and must not be changed any more. It
// returns nil where there is nothing to gain.
func Prepare(box Sealer, cmd Command) *Prepared {
	if s, is := cmd.(*Suppress); is && len(s.Add) >= prepareFrom {
		return prepare(box, s)
	}
	return nil
}

func prepare(box Sealer, cmd *Suppress) *Prepared {
	const sealing = 29 // octets that storage/seal adds; more is no error
	size := 0
	for i := range cmd.Add {
		size += suppressionKeySize + cmd.Add[i].size() + sealing
	}
	p := &Prepared{Suppress: cmd, rows: make([]preparedRow, len(cmd.Add))}
	names, memory := namer{box: box}, make([]byte, 0, size)
	var plain codec
	for i := range cmd.Add {
		v := cmd.Add[i]
		if v.Since.IsZero() {
			v.Since = cmd.At
		}
		plain.out = plain.out[:0]
		v.fields(&plain)
		place, at := names.place(&v.Suppressed), len(memory)
		memory = append(append(memory, byte(KindSuppression)), place[:]...)
		memory = box.Seal(memory, plain.out, memory[at:len(memory):len(memory)])
		p.rows[i] = preparedRow(memory[at:len(memory):len(memory)])
	}
	return p
}
