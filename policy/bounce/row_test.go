package bounce

import (
	"strings"
	"testing"

	"github.com/ekiden-mta/ekiden/mail"
)

// An operator's rows are asked before the built-in ones of the same receiver, and before those of everybody.
func TestOwnRowsComeFirst(t *testing.T) {
	own := []Own{
		{Receiver: "docomo", Rows: []Row{{Name: "house", Codes: []int{550}, Text: []string{"Unknown User"}, Status: "refused", Scope: "tenant",
			Act: "suspend", For: "2h"}}},
		{Rows: []Row{{Name: "closed", Codes: []int{5}, Text: []string{"unknown user"}, Status: "capacity", Scope: "recipient", Retry: true}}},
	}
	r, err := New(own...)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, receiver, rule string
		status               mail.Status
		result               mail.Result
	}{
		{"of the receiver", "docomo", "own/docomo/house", mail.StatusRefused, mail.Failed},
		{"a receiver's built-in rule before everybody's", "au", "au/unknown", mail.StatusUserUnknown, mail.Failed},
		{"everybody's before the built-in one", "mx:a.example", "own/default/closed", mail.StatusOverCapacity, mail.Deferred},
	}
	replies := map[string]string{"au": "550 <x@ezweb.ne.jp>: User unknown"}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			reply := replies[tt.receiver]
			if reply == "" {
				reply = "550 Unknown user x@docomo.ne.jp"
			}
			got := r.Classify(tt.receiver, outcome(t, mail.StageRcpt, reply), "x@ezweb.ne.jp")
			if got.Advice == nil || got.Advice.Rule != tt.rule || got.Status != tt.status || got.Result != tt.result {
				t.Errorf("%+v by %+v", got, got.Advice)
			}
		})
	}
	if len(own[0].Rows[0].Source) > 0 {
		t.Error("the settings were written to")
	}
	if e := r.Entries(); !e[0].Own || e[0].Rule != "own/docomo/house" || !e[1].Own || e[2].Own {
		t.Errorf("the list begins with %+v", e[:3])
	}
}

// Lint looks at built-in and own rows together.
func TestLintOfOwnRows(t *testing.T) {
	r, err := New(Own{Receiver: "docomo", Rows: []Row{
		{Name: "wide", Codes: []int{5}, Text: []string{"mail data"}, Status: "capacity", Scope: "recipient"},
		{Name: "dead", Codes: []int{552}, Text: []string{"too much mail data"}, Status: "refused", Scope: "recipient"},
		{Name: "elsewhere", Codes: []int{421}, Text: []string{"busy"}, Status: "timeout", Scope: "source", Example: "451 busy"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"own/docomo/dead":      "wrong is unreachable behind own/docomo/wide",
		"own/docomo/elsewhere": "wrong never matches: its own example does not",
		"docomo/full":          "meant is unreachable behind own/docomo/wide",
	}
	for _, f := range r.Lint() {
		level := "wrong"
		if f.Meant {
			level = "meant"
		}
		if got := level + " " + f.Text; got != want[f.Rule] {
			t.Errorf("%s: %s, want %q", f.Rule, got, want[f.Rule])
		}
		delete(want, f.Rule)
	}
	if len(want) > 0 {
		t.Errorf("not found: %v", want)
	}
}

func TestCheckRow(t *testing.T) {
	fine := func() Row {
		return Row{Name: "a", Codes: []int{550}, Text: []string{"x"}, Status: "user", Scope: "recipient"}
	}
	tests := []struct {
		name string
		edit func(*Row)
		want string // "" = fine
	}{
		{"fine", func(*Row) {}, ""},
		{"a silence", func(w *Row) {
			*w = Row{Name: "a", Silence: []string{"reset"}, Scope: "source", Act: "suspend", For: "1h"}
		}, ""},
		{"no name", func(w *Row) { w.Name = "" }, "name is missing"},
		{"a name with a slash", func(w *Row) { w.Name = "a/b" }, "name \"a/b\" must be at most 60"},
		{"a stage that is none", func(w *Row) { w.Stages = []string{"body"} }, `stages "body" is none; allowed: dns, connect`},
		{"a success", func(w *Row) { w.Codes = []int{250} }, "codes 250 is no refusal; allowed: 400 to 599, 4, 5"},
		{"an empty text", func(w *Row) { w.Text = []string{""} }, `text "" must have 1 to 200 octets`},
		{"everything", func(w *Row) { w.Codes, w.Text = nil, nil }, "codes are missing"},
		{"an enhanced code that is none", func(w *Row) { w.Enhanced = []string{"5.7"} }, `enhanced "5.7" is no code; write 5.1.1`},
		{"a range that is upside down", func(w *Row) { w.Enhanced = []string{"5.7.9-2"} }, `enhanced "5.7.9-2" is no code`},
		{"a scope that is none", func(w *Row) { w.Scope = "everybody" }, `scope "everybody"; allowed: connection, dkim`},
		{"a status that is none", func(w *Row) { w.Status = "" }, `status ""; allowed: capacity`},
		{"an action that is none", func(w *Row) { w.Act = "stop" }, `act "stop"; allowed: backoff, limit`},
		{"a time that is none", func(w *Row) { w.Act, w.For = "suspend", "soon" }, `for "soon" is no time above zero, such as 90m`},
		{"after without within", func(w *Row) { w.After = 3 }, "after and within go together"},
		{"jump, fine", func(w *Row) { w.Jump = &JumpRow{Share: 25, For: "1h"} }, ""},
		{"jump to nothing", func(w *Row) { w.Jump = &JumpRow{Share: 101, For: "1h"} }, "jump.share 101 is no percentage"},
		{"jump without a time", func(w *Row) { w.Jump = &JumpRow{Share: 25} }, "jump.for \"\" is no time"},
		{"jump beside an act", func(w *Row) { w.Act, w.For, w.Jump = "suspend", "1h", &JumpRow{Share: 25, For: "1h"} }, "jump goes with no act"},
		{"then, fine", func(w *Row) { w.Then = &ThenRow{Scope: "tenant", For: "1h", Sources: 3, Within: "1h"} }, ""},
		{"then without a time", func(w *Row) { w.Then = &ThenRow{Scope: "tenant"} }, "then.for is missing"},
		{"then with half a count", func(w *Row) { w.Then = &ThenRow{Scope: "source", For: "1h", After: 5} }, "then.within goes with after or sources"},
		{"then of a tenant everywhere", func(w *Row) { w.Then = &ThenRow{Scope: "tenant", For: "1h", Everywhere: true} }, "then.everywhere goes with scope source"},
		{"then of a recipient", func(w *Row) { w.Then = &ThenRow{Scope: "recipient", For: "1h"} }, `then.scope "recipient" cannot be suspended`},
		{"limits without limit", func(w *Row) { w.Rate = 3 }, "act must be limit"},
		{"limit without limits", func(w *Row) { w.Act = "limit" }, "act limit names neither"},
		{"an example that is no refusal", func(w *Row) { w.Example = "fine" }, `example "fine" is no refusal`},
		{"a stage of the example that is none", func(w *Row) { w.At = "end" }, `at "end" is no stage`},
		{"too long a list", func(w *Row) { w.Codes = make([]int, 101); fill(w.Codes, 550) }, "codes has 101 entries; allowed: at most 100"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := fine()
			tt.edit(&w)
			var texts []string
			for _, e := range CheckRow(w) {
				texts = append(texts, e.Error())
			}
			got := strings.Join(texts, "\n")
			if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if tt.want == "" {
				if _, err := New(Own{Receiver: "docomo", Rows: []Row{w}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func fill(list []int, v int) {
	for i := range list {
		list[i] = v
	}
}

// What an event tells of an answer leads to the same meaning again, under the same rules.
func TestReplay(t *testing.T) {
	built := mustRules(t)
	own, err := New(Own{Receiver: "docomo", Rows: []Row{{Name: "house", Codes: []int{550}, Text: []string{"unknown user"}, Status: "refused", Scope: "recipient"}}})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, receiver string
		stage          mail.Stage
		reply          string
		changed        bool // under own
	}{
		{"a permanent refusal", "docomo", mail.StageRcpt, "550 Unknown user x@docomo.ne.jp", true},
		{"one that is tried again", "google", mail.StageDot, "550 5.7.28 unusual rate of mail originating from your DKIM domain", false},
		{"a transient one", "google", mail.StageDot, "421 4.7.28 unusual rate of email originating from your IP address", false},
		{"one that no rule knows", "mx:a.example", mail.StageDot, "451 local trouble", false},
		{"a banner that refuses", "mx:a.example", mail.StageGreeting, "554 go away", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := outcome(t, tt.stage, tt.reply)
			if tt.stage == mail.StageGreeting {
				in.Result = mail.Deferred
			}
			o := built.Classify(tt.receiver, in, "x@docomo.ne.jp")
			e := mail.Event{Kind: mail.EventFailed, Receiver: tt.receiver, Stage: o.Stage, Reply: o.Reply, Detail: o.Detail, To: "x@docomo.ne.jp"}
			if o.Result == mail.Deferred {
				e.Kind = mail.EventDeferred
			}
			e.Judge(&o)
			would, did, ok := built.Replay(&e)
			if !ok || !SameDoing(&would, &did) || !SameDoing(&did, &o) {
				t.Errorf("was %+v, replayed %+v from %+v", o, would, did)
			}
			if would, did, _ = own.Replay(&e); SameDoing(&would, &did) == tt.changed {
				t.Errorf("under other rules: %+v, was %+v", would, did)
			}
		})
	}
	for name, e := range map[string]mail.Event{
		"a lifetime that ended": {Kind: mail.EventFailed, Status: mail.StatusTimeout, Detail: "lifetime exceeded"},
		"a delivery":            {Kind: mail.EventDelivered, Stage: mail.StageDot},
		"our own trouble":       {Kind: mail.EventDeferred, Stage: mail.StageConnect, Detail: "no such host"},
	} {
		if _, _, ok := built.Replay(&e); ok {
			t.Errorf("%s counts as an answer", name)
		}
	}
}
