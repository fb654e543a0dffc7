package bounce

import (
	"testing"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
)

// The matrix of requirements D3: what became of a delivery, and what a classic bounce says of it.
func TestReason(t *testing.T) {
	r := mustRules(t)
	failed := func(receiver string, st mail.Stage, reply string, to mail.Address) mail.Event {
		o := r.Classify(receiver, outcome(t, st, reply), to)
		return mail.Event{Kind: mail.EventFailed, Domain: to.Domain(), Stage: st, Status: o.Status, Reply: o.Reply}
	}
	end := func(k mail.EventKind, s mail.Status) mail.Event {
		return mail.Event{Kind: k, Status: s, Domain: "x.example"}
	}
	tests := []struct {
		name, queue string
		e           mail.Event
		status      mail.Status
		want        string
	}{
		{"docomo unknown at RCPT", "docomo", failed("docomo", mail.StageRcpt, "550 Unknown user x@docomo.ne.jp", "x@docomo.ne.jp"), 2, "unknown user"},
		{"docomo unknown after DATA", "docomo", failed("docomo", mail.StageDot, "550 Unknown user x@docomo.ne.jp", "x@docomo.ne.jp"), 4, "reject"},
		{"docomo full", "docomo", failed("docomo", mail.StageDot, "552 Too much mail data x@docomo.ne.jp", "x@docomo.ne.jp"), 5, ""},
		{"au with address", "ezweb", failed("au", mail.StageRcpt, "550 <x@ezweb.ne.jp>: User unknown", "x@ezweb.ne.jp"), 2, "unknown user"},
		{"au without address", "ezweb", failed("au", mail.StageRcpt, "550 : User unknown", "x@ezweb.ne.jp"), 4, ""},
		{"softbank", "softbank", failed("softbank", mail.StageRcpt, "550 Invalid recipient: <x@i.softbank.jp>", "x@i.softbank.jp"), 2, "unknown user"},
		{"vodafone", "vodafone", failed("vodafone", mail.StageRcpt, "550 Invalid recipient: <x@d.vodafone.ne.jp>", "x@d.vodafone.ne.jp"), 2, "unknown user"},
		{"disney", "disney", failed("disney", mail.StageRcpt, "550 Invalid recipient: <x@disney.ne.jp>", "x@disney.ne.jp"), 2, "unknown user"},
		{"judged provider", "pc", failed("google", mail.StageRcpt, "550 5.1.1 does not exist", "x@gmail.com"), 2, "unknown user"},
		{"judged provider, as printed", "pc", failed("", mail.StageRcpt, "550 user unknown", "x@ivedoor.com"), 2, "unknown user"},
		{"other PC", "pc", failed("", mail.StageRcpt, "550 user unknown", "x@sampledomain.com"), 2, "unknown user (maybe)"},
		{"other PC, something else", "pc", failed("", mail.StageDot, "554 looks like spam", "x@sampledomain.com"), 4, ""},
		{"no such host", "pc", mail.Event{Kind: mail.EventFailed, Stage: mail.StageDNS, Status: 1}, 1, "unknown host"},
		{"lifetime", "pc", end(mail.EventFailed, mail.StatusTimeout), 3, ""},
		{"format", "pc", end(mail.EventFailed, mail.StatusFormat), 9, ""},
		{"black box", "pc", end(mail.EventSuppressed, mail.StatusUserUnknown), 2, "unknown user"},
		{"block list", "pc", end(mail.EventSuppressed, mail.StatusBlockListed), 10, ""},
		{"unsubscribed", "pc", end(mail.EventSuppressed, mail.StatusUnsubscribed), 11, ""},
		{"discarded", "pc", end(mail.EventDiscarded, mail.StatusInterrupted), 12, ""},
		{"delivered", "docomo", end(mail.EventDelivered, 0), 0, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Reason(&tt.e, tt.queue); got != tt.want || tt.e.Status != tt.status {
				t.Errorf("%q with status %d, want %q with %d", got, tt.e.Status, tt.want, tt.status)
			}
		})
	}
}

// The codes of R74: those of our own occur each in their case, and a receiver's are kept; and the kinds of R98.
func TestCode(t *testing.T) {
	reply := smtp.Reply{Code: 452}
	tests := []struct {
		name string
		e    mail.Event
		code int
		kind string
	}{
		{"delivered", mail.Event{Kind: mail.EventDelivered, Reply: smtp.Reply{Code: 250}}, 250, ""},
		{"temporary", mail.Event{Kind: mail.EventDeferred, Stage: mail.StageRcpt, Reply: reply, Status: 5}, 452, Soft},
		{"permanent", mail.Event{Kind: mail.EventFailed, Stage: mail.StageRcpt, Reply: smtp.Reply{Code: 551}, Status: 2}, 551, Hard},
		{"nobody at home", mail.Event{Kind: mail.EventDeferred, Stage: mail.StageConnect, Status: 3}, 421, Soft},
		{"lifetime", mail.Event{Kind: mail.EventFailed, Status: 3}, 490, Soft},
		{"DNS later", mail.Event{Kind: mail.EventDeferred, Stage: mail.StageDNS, Status: 3}, 491, Soft},
		{"no host", mail.Event{Kind: mail.EventFailed, Stage: mail.StageDNS, Status: 1}, 590, Hard},
		{"black box", mail.Event{Kind: mail.EventSuppressed, Status: 2}, 591, ""},
		{"discarded", mail.Event{Kind: mail.EventDiscarded, Status: 12}, 592, ""},
		{"format", mail.Event{Kind: mail.EventFailed, Status: 9}, 593, Hard},
		{"full", mail.Event{Kind: mail.EventFailed, Stage: mail.StageDot, Status: 5, Reply: smtp.Reply{Code: 552}}, 552, Soft},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if c, k := Code(&tt.e), Kind(&tt.e); c != tt.code || k != tt.kind {
				t.Errorf("%d %q, want %d %q", c, k, tt.code, tt.kind)
			}
		})
	}
}

// Every status of R96 has its words, and rules data use the same names.
func TestVocabularyIsWhole(t *testing.T) {
	for name, s := range statusNames() {
		if w := WordsOf(s); w.Name != name || w.Code == 0 || w.Enhanced.IsZero() {
			t.Errorf("%s: %+v", name, w)
		}
	}
	for s := mail.StatusHostUnknown; s <= mail.StatusInterrupted; s++ {
		if WordsOf(s).Name == "" {
			t.Errorf("status %d has no words", s)
		}
	}
}
