package house

import "slices"

// module is the path in front of every import of the house.
const module = "github.com/ekiden-mta/ekiden"

// row says what the packages of one part of the tree may import of the house, besides their own room. In patterns,
// "a/..." stands for a and everything below it. The first row whose from matches a package is its row; a package
// without a row has no place in the house.
type row struct {
	from string
	may  []string
	why  string
}

// rooms are the rooms that node joins together, with the words, the decisions and the ground below them.
func rooms() []string {
	return []string{"actors/...", "cluster/...", "smtpd/...", "delivery/...", "storage/...", "admin/...",
		"mail/...", "policy/...", "internal/..."}
}

// table is the import table.
func table() []row {
	ground := []string{"mail/...", "policy/...", "internal/..."}
	const sibling = "six siblings: each may be understood, tested and replaced alone; node joins them"
	return []row{
		{"cmd/ekiden-bench/...", append(rooms(), "node/...", "bench/..."), "the one main that drives bench"},
		{"cmd/...", append(rooms(), "node/..."), "a main assembles nothing itself, and must not ship bench"},
		{"bench/...", append(rooms(), "node/..."), "bench drives the house from outside; nobody needs a main"},
		{"node/...", rooms(), "the only room that knows them all, and is known by mains only"},
		{"actors/...", ground, sibling},
		{"cluster/...", ground, sibling},
		{"smtpd/...", ground, sibling},
		{"delivery/...", ground, sibling},
		{"storage/...", ground, sibling},
		{"admin/...", ground, sibling},
		{"policy/settings/...", []string{"mail/...", "policy/bounce", "policy/filter", "policy/schedule"}, "settings are handed out ready to match, so that nobody compiles them twice"},
		{"policy/...", []string{"mail/...", "policy/settings"}, "decisions know the words, and what the operator decided, and nothing that acts"},
		{"mail/...", nil, "the words are below everything"},
		{"internal/...", nil, "the ground knows no mail, and no room leans on another through it"},
	}
}

// apart lists the parts of the tree whose packages are rooms of their own, not one room together: policy/shaping may not
// lean on policy/schedule, nor internal/metrics on internal/clock.
func apart() []string { return []string{"policy", "internal", "cmd"} }

// fence says that a library, and what lies below its path, is imported in some parts of the tree only.
type fence struct {
	library string
	only    []string
	why     string
}

func fences() []fence {
	return []fence{
		{"github.com/dgraph-io/badger", []string{"storage/...", "cluster/..."},
			"one room owns the disk: its syncs, its keys and its seals"},
		{"github.com/asynkron/protoactor-go", []string{"actors/...", "node/..."},
			"machines are pure and are stepped without mailboxes"},
		{"github.com/asynkron/protoactor-go/remote", nil, "between nodes there are our own acknowledged streams"},
		{"github.com/asynkron/protoactor-go/cluster", nil, "membership is the cluster room's"},
		{"github.com/asynkron/protoactor-go/persistence", nil, "the queue on disk is the truth"},
		{"github.com/emersion/go-smtp", []string{"smtpd/...", "delivery/smtpc/...", "bench/..."},
			"its gaps are closed by what stands around it there"},
		{"github.com/miekg/dns", []string{"delivery/dns/...", "bench/..."},
			"the resolver's caps and guards are not passed by"},
		{"github.com/prometheus", []string{"internal/metrics/..."}, "metrics are a typed set with bounded labels"},
		{"github.com/hashicorp/raft", []string{"cluster/..."}, "agreement is one room's business"},
		{"github.com/hashicorp/memberlist", []string{"cluster/..."}, "gossip only tells who is here"},
		{module + "/internal/house", nil, "the rules are checked by their own test"},
	}
}

// wordsMay lists what code under mail may import besides the standard library and mail itself.
func wordsMay() []fence {
	const signing = "MIME and signatures are read and written there only"
	return []fence{
		{"golang.org/x/text", []string{"mail/..."}, "character sets"},
		{"golang.org/x/net/idna", []string{"mail/..."}, "domain names in two spellings"},
		{"github.com/emersion/go-message", []string{"mail/compose/...", "mail/report/...", "mail/sign/..."}, signing},
		{"github.com/emersion/go-msgauth", []string{"mail/sign/...", "mail/report/..."}, signing},
		{"go.mozilla.org/pkcs7", []string{"mail/sign/..."}, signing},
	}
}

// pure lists what code that does no I/O may not import from the standard library. Tests may.
func pure() []fence {
	const why = "no I/O: what it needs to know is an argument"
	return []fence{
		{"os", nil, why}, {"net", nil, why}, {"syscall", nil, why}, {"io/ioutil", nil, why}, {"database/sql", nil, why},
		{"plugin", nil, why}, {"log", nil, "no I/O: a verdict is logged by who asked for it"},
		{"math/rand", nil, "chance is an argument, so that a seed replays a decision"},
		{"crypto/rand", nil, "chance is an argument, so that a seed replays a decision"},
	}
}

// pureMay lists what lies below a path of pure and is values only.
func pureMay() []string { return []string{"net/netip", "net/mail", "net/url", "net/textproto"} }

// Who is pure: policy decides and mail names, neither acts. Chance is forbidden to policy alone by the house, but a
// word has no use for it either.
func pureRooms() []string { return []string{"policy/...", "mail/..."} }

// Functions of package time that read the machine's clock, and those that also wait for it.
func clockReaders() []string { return []string{"Now", "Since", "Until"} }
func clockWaiters() []string {
	return []string{"Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick"}
}

// clockRooms may read the machine's clock: the clock itself, and what measures the house from outside.
func clockRooms() []string { return []string{"internal/clock/...", "bench/...", "cmd/..."} }

// fixed lists calls of other packages whose results never change, so that a package-level variable may hold them.
func fixed() []string {
	return []string{
		"errors.New", "fmt.Errorf",
		"regexp.MustCompile", "template.Must", "strings.NewReplacer",
		"netip.MustParseAddr", "netip.MustParsePrefix", "netip.MustParseAddrPort",
		"netip.AddrFrom4", "netip.AddrFrom16", "netip.PrefixFrom",
		"crc32.MakeTable", "crc64.MakeTable", "base32.NewEncoding", "base64.NewEncoding",
		"idna.New", "cases.Fold", "time.Date", "time.FixedZone", "time.Unix",
		"unicode.In", "reflect.TypeFor", "reflect.TypeOf", "big.NewInt",
	}
}

// mutable lists types of the standard library that change through their methods, whatever they were declared with.
func mutable() []string {
	return []string{"bytes.Buffer", "strings.Builder", "http.Client", "http.Server", "http.ServeMux", "rand.Rand",
		"time.Timer", "time.Ticker", "os.File", "log.Logger"}
}

// bannedNames are package names that name no noun, so that everything ends up in them.
func bannedNames() []string {
	return []string{"util", "utils", "common", "helper", "helpers", "types", "models", "model", "manager", "base", "misc",
		"shared", "lib"}
}

// bannedWords must not stand in any text of the tree: what is unfinished is finished or is an issue. They are written in
// two halves so that this file does not hold them.
func bannedWords() []string { return []string{"TO" + "DO(", "FIX" + "ME", "XX" + "X"} }

// maxLines is the longest file that needs no word of justification.
const maxLines = 600

// longFile starts the line that justifies a longer one.
const longFile = "// Long file: "

// matches tells whether a package's directory falls under one of patterns.
func matches(dir string, patterns ...string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		if below, ok := cutRest(p); ok {
			return under(dir, below)
		}
		return dir == p
	})
}
