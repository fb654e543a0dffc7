package ledger

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

var update = flag.Bool("update", false, "write the transcripts anew")

// paper is a book without a disk, for the machine alone.
type paper struct {
	state *State
	lists map[Place]Suppression
	index uint64
}

func newPaper() *paper { return &paper{state: &State{}, lists: map[Place]Suppression{}} }

func (p *paper) State() *State { return p.state }

func (p *paper) Find(v *Suppressed) (Place, bool, error) {
	sum := sha256.Sum256([]byte(fmt.Sprintf("%q", *v)))
	at := Place(sum[:len(Place{})])
	_, found := p.lists[at]
	return at, found, nil
}

func (p *paper) Has(at Place) (bool, error) {
	_, found := p.lists[at]
	return found, nil
}

func (p *paper) Read(at Place) (Suppression, error) { return p.lists[at], nil }

func (p *paper) apply(t interface{ Fatal(...any) }, cmd Command) ([]Write, Result) {
	p.index++
	before := p.state
	was := fmt.Sprintf("%v", *before)
	w, r, err := Apply(p, Stamp{Index: p.index, Term: 1}, cmd)
	if err != nil {
		t.Fatal(err)
	}
	p.state = before.draft()
	for _, c := range w {
		switch {
		case c.Audit != nil:
		case c.Suppression != nil:
			p.lists[c.Place] = *c.Suppression
		case c.Record == nil:
			delete(p.lists, c.Place)
		case c.Drop:
			p.state.drop(c.Record)
		default:
			p.state.put(c.Record)
		}
	}
	if fmt.Sprintf("%v", *before) != was {
		t.Fatal("the state before the command changed")
	}
	return w, r
}

// TestTranscripts plays the commands of testdata/*.txt. What the machine answers and changes stands under each.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(raw))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(raw) {
				t.Errorf("the machine now says:\n%s", got)
			}
		})
	}
}

func play(t *testing.T, script string) string {
	p := newPaper()
	var out strings.Builder
	for line := range strings.Lines(script) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "    ") {
			continue
		}
		out.WriteString(line + "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		w, r := p.apply(t, parse(t, line))
		fmt.Fprintf(&out, "    %d: %s\n", r.Index, r)
		for _, c := range w {
			out.WriteString("    " + written(c) + "\n")
		}
	}
	return out.String()
}

// written is one change on one line.
func written(w Write) string {
	switch {
	case w.Audit != nil:
		a := w.Audit
		return fmt.Sprintf("  audit %d: %s: %s %s: %s", a.Seq, a.Author, a.Action, a.Subject, a.Detail)
	case w.Suppression != nil:
		return fmt.Sprintf("  + %s since=%s", w.Suppression, second(w.Suppression.Since))
	case w.Record == nil:
		return "  - a suppression"
	}
	sign := "="
	if w.Drop {
		sign = "-"
	}
	var say string
	switch v := w.Record.(type) {
	case *Object:
		say = fmt.Sprintf("object %s version=%d %s", v.id(), v.Version, v.Data)
	case *Gate:
		say = fmt.Sprintf("gate %s/%s version=%d closed=%t refuse=%t hold=%t", v.Tenant, v.Group, v.Version, v.Closed, v.RefuseIntake, v.HoldExpiry)
	case *Lineage:
		say = fmt.Sprintf("lineage %d/%d %s owner=%s former=%s renewed=%d standbys=%v", v.Lineage, v.Epoch, v.Phase, v.Owner, v.Former, v.Renewed, v.Standbys)
	case *auditHead:
		say = fmt.Sprintf("audit trail ends at %d", v.Seq)
	case *Credential:
		say = fmt.Sprintf("%s version=%d role=%s", v.subject(), v.Version, v.Role)
	case *Meta:
		say = fmt.Sprintf("meta %s version=%d %s", v.Name, v.Version, v.Data)
	case *Member:
		say = fmt.Sprintf("member %s %s role=%s voter=%t removed=%t since=%s seen=%s", v.Name, v.Address, v.Role, v.Voter, v.Removed, second(v.Since), second(v.Seen))
	default:
		say = strings.TrimPrefix(fmt.Sprintf("%T %+v", v, reflect.ValueOf(v).Elem()), "*ledger.")
	}
	return "  " + sign + " " + say
}

// second is a moment as transcripts name it.
func second(at time.Time) string {
	if at.IsZero() {
		return "never"
	}
	return fmt.Sprint(at.Unix() - moment(0).Unix())
}

// parse reads "action Field=value …". Lists have forms of their own.
func parse(t *testing.T, line string) Command {
	name, rest, _ := strings.Cut(line, ":")
	var cmd Command
	for code := commandCode(1); ; code++ {
		c, n := newCommand(code)
		if c == nil {
			t.Fatalf("no command %q", name)
		}
		if n == name {
			cmd = c
			break
		}
	}
	v := reflect.ValueOf(cmd).Elem()
	for _, word := range strings.Fields(rest) {
		key, value, named := strings.Cut(word, "=")
		if !named || !setField(v, key, value) {
			item(t, cmd, word)
		}
	}
	return cmd
}

func setField(v reflect.Value, path, value string) bool {
	for part := range strings.SplitSeq(path, ".") {
		if v = v.FieldByName(part); !v.IsValid() {
			return false
		}
	}
	n, _ := strconv.ParseUint(value, 10, 64)
	switch {
	case v.Type() == reflect.TypeOf(moment(0)):
		v.Set(reflect.ValueOf(moment(int(n))))
	case v.Kind() == reflect.String:
		v.SetString(value)
	case v.Kind() == reflect.Bool:
		v.SetBool(value == "true")
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8:
		v.SetBytes([]byte(value))
	case v.CanUint() && value == "any":
		v.SetUint(Any)
	case v.CanUint():
		v.SetUint(n)
	default:
		return false
	}
	return true
}

// item adds an element to the command's list.
func item(t *testing.T, cmd Command, word string) {
	a, b, _ := strings.Cut(word, "/")
	switch cmd := cmd.(type) {
	case *PutObjects: // kind/name@base=data, or kind/name@base for a deletion
		b, data, put := strings.Cut(b, "=")
		b, base, _ := strings.Cut(b, "@")
		c := ObjectChange{Kind: a, Name: b, Data: []byte(data), Delete: !put}
		if c.Base, _ = strconv.ParseUint(base, 10, 64); base == "any" {
			c.Base = Any
		}
		cmd.Changes = append(cmd.Changes, c)
	case *Renew: // lineage/epoch
		l, _ := strconv.ParseUint(a, 10, 32)
		e, _ := strconv.ParseUint(b, 10, 64)
		cmd.Lineages = append(cmd.Lineages, LineageEpoch{mail.Lineage(l), e})
	case *SetStandbys: // node or node/full
		cmd.Standbys = append(cmd.Standbys, Standby{a, b == "full"})
	case *Seen:
		cmd.Names = append(cmd.Names, a)
	case *Suppress: // list/address
		l, _ := ParseList(a)
		cmd.Add = append(cmd.Add, Suppression{Suppressed: Suppressed{Scope{List: l}, b}})
	case *Unsuppress:
		l, _ := ParseList(a)
		cmd.Remove = append(cmd.Remove, Suppressed{Scope{List: l}, b})
	case *Release: // list/address@since
		l, _ := ParseList(a)
		last := strings.LastIndexByte(b, '@')
		n, _ := strconv.Atoi(b[last+1:])
		cmd.Remove = append(cmd.Remove, Found{Suppressed{Scope{List: l}, b[:last]}, moment(n)})
	default:
		t.Fatalf("%q means nothing to %T", word, cmd)
	}
}
