package bounce

import (
	"strings"
	"testing"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
)

func mustRules(t testing.TB) *Rules {
	t.Helper()
	r, err := New()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func mustReply(t testing.TB, line string) smtp.Reply {
	t.Helper()
	r, _, err := smtp.ParseReply([]byte(line + "\r\n"))
	if err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return r
}

func outcome(t testing.TB, st mail.Stage, line string) mail.Outcome {
	o := mail.Outcome{Stage: st, Result: mail.Failed}
	if line == "" {
		o.Result = mail.Deferred
		return o
	}
	o.Reply = mustReply(t, line)
	if o.Reply.Transient() {
		o.Result = mail.Deferred
	}
	return o
}

func TestClassify(t *testing.T) {
	const pc = "mx:mx.example.org"
	tests := []struct {
		name, receiver string
		stage          mail.Stage
		reply          string
		to             mail.Address
		status         mail.Status
		scope          mail.Scope
	}{
		// The matrix of requirements D3.
		{"docomo unknown at RCPT", "docomo", mail.StageRcpt, "550 Unknown user x@docomo.ne.jp", "x@docomo.ne.jp", 2, mail.ScopeRecipient},
		{"docomo refused at the dot", "docomo", mail.StageDot, "550 Unknown user x@docomo.ne.jp", "x@docomo.ne.jp", 4, mail.ScopeRecipient},
		{"docomo capacity", "docomo", mail.StageDot, "552 Too much mail data x@docomo.ne.jp", "x@docomo.ne.jp", 5, mail.ScopeRecipient},
		{"docomo irregular address", "docomo", mail.StageRcpt, `550 Unknown user "..x"@docomo.ne.jp`, "..x@docomo.ne.jp", 2, mail.ScopeRecipient},
		{"au with the address", "au", mail.StageRcpt, "550 <x@ezweb.ne.jp>: User unknown", "X@ezweb.ne.jp", 2, mail.ScopeRecipient},
		{"au with the address quoted", "au", mail.StageRcpt, `550 <"x."@ezweb.ne.jp>: User unknown`, "x.@ezweb.ne.jp", 2, mail.ScopeRecipient},
		{"au without the address", "au", mail.StageRcpt, "550 : User unknown", "x@ezweb.ne.jp", 4, mail.ScopeRecipient},
		{"au relay denied", "au", mail.StageRcpt, "554 <x@ezweb.ne.jp>: Relay access denied", "x@ezweb.ne.jp", 9, mail.ScopeRecipient},
		{"au reset", "au", mail.StageRcpt, "", "x@ezweb.ne.jp", 3, mail.ScopeConnection},
		{"softbank unknown", "softbank", mail.StageRcpt, "550 Invalid recipient: <x@i.softbank.jp>", "x@i.softbank.jp", 2, mail.ScopeRecipient},
		{"disney unknown", "disney", mail.StageRcpt, "550 Invalid recipient: <x@disney.ne.jp>", "x@disney.ne.jp", 2, mail.ScopeRecipient},
		{"softbank: our domain lacks DNS", "softbank", mail.StageMail, "553 <shop.example> does not exist", "x@softbank.ne.jp", 4, mail.ScopeTenant},
		{"pc unknown", pc, mail.StageRcpt, "550 5.1.1 <a@example.org>: Recipient address rejected: User unknown", "a@example.org", 2, mail.ScopeRecipient},
		{"pc unknown without enhanced code", pc, mail.StageRcpt, "550 No such user here", "a@example.org", 2, mail.ScopeRecipient},
		{"pc other", pc, mail.StageRcpt, "550 no", "a@example.org", 99, mail.ScopeRecipient},
		{"pc forward", pc, mail.StageDot, "550 5.1.1 <behind@elsewhere.example> user unknown", "a@example.org", 6, mail.ScopeRecipient},
		{"pc full", pc, mail.StageRcpt, "552 5.2.2 mailbox full", "a@example.org", 5, mail.ScopeRecipient},
		{"pc full for now", pc, mail.StageRcpt, "452 4.2.2 over quota", "a@example.org", 5, mail.ScopeRecipient},
		{"pc size at MAIL", pc, mail.StageMail, "552 5.3.4 message size exceeds limit", "a@example.org", 8, mail.ScopeMessage},
		{"pc size at the dot", pc, mail.StageDot, "554 message too large", "a@example.org", 8, mail.ScopeMessage},
		{"pc not hosted here", pc, mail.StageRcpt, "554 5.7.1 <a@example.org>: Relay access denied", "a@example.org", 7, mail.ScopeRecipient},
		{"pc wants AUTH", pc, mail.StageMail, "530 5.7.0 Authentication required", "a@example.org", 7, mail.ScopeReceiver},
		{"pc address format", pc, mail.StageRcpt, "553 5.1.3 bad syntax", "a@example.org", 9, mail.ScopeRecipient},
		{"pc spam", pc, mail.StageDot, "550 5.7.1 rejected as spam", "a@example.org", 4, mail.ScopeMessage},
		{"any DNS block list", pc, mail.StageRcpt, "554 5.7.1 blocked using bl.example", "a@example.org", 4, mail.ScopeSource},
		{"any greylisting", pc, mail.StageRcpt, "451 4.7.1 Greylisting in action, please come back later", "a@example.org", 3, mail.ScopeRecipient},
		{"any 421", pc, mail.StageDot, "421 closing", "a@example.org", 3, mail.ScopeConnection},
		{"5xx banner", pc, mail.StageGreeting, "554 go away", "a@example.org", 3, mail.ScopeConnection},
		{"unknown 4xx", pc, mail.StageDot, "451 local error", "a@example.org", 3, mail.ScopeRecipient},
		{"connection refused", pc, mail.StageConnect, "", "a@example.org", 3, mail.ScopeConnection},
		{"SERVFAIL", "", mail.StageDNS, "", "a@example.org", 3, mail.ScopeReceiver},

		// Traps of the receivers' data: a 5xx that is not the recipient's fault, and the named scope.
		{"gmail IP", "google", mail.StageDot, "421 4.7.28 unusual rate of email originating from your IP address", "a@gmail.com", 4, mail.ScopeSource},
		{"gmail DKIM domain", "google", mail.StageDot, "421 4.7.28 unusual rate of email originating from your DKIM domain", "a@gmail.com", 4, mail.ScopeDKIM},
		{"gmail DMARC", "google", mail.StageDot, "550 5.7.26 unauthenticated, does not pass DMARC policy", "a@gmail.com", 4, mail.ScopeTenant},
		{"gmail unknown", "google", mail.StageRcpt, "550 5.1.1 The email account that you tried to reach does not exist", "a@gmail.com", 2, mail.ScopeRecipient},
		{"yahoo TSS09", "yahoo", mail.StageMail, "553 5.7.2 [TSS09] All messages will be permanently deferred", "a@aol.com", 4, mail.ScopeSource},
		{"yahoo.co.jp VS98", "yahoojp", mail.StageMail, "553 VS98-IP0 deferred", "a@yahoo.co.jp", 4, mail.ScopeSource},
		{"outlook S3150", "outlook", mail.StageMail, "550 5.7.1 part of their network is on our block list (S3150)", "a@outlook.jp", 4, mail.ScopeSource},
		{"outlook 5.7.515", "outlook", mail.StageDot, "550 5.7.515 Access denied, sending domain shop.example", "a@outlook.jp", 4, mail.ScopeTenant},
		{"office365 unknown", "office365", mail.StageRcpt, "550 5.4.1 Recipient address rejected: Access denied", "a@contoso.example", 2, mail.ScopeRecipient},
		{"qq frequency", "qq", mail.StageMail, "550 Connection frequency limited", "a@qq.com", 4, mail.ScopeSource},
	}
	r := mustRules(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := outcome(t, tt.stage, tt.reply)
			got := r.Classify(tt.receiver, in, tt.to)
			if got.Status != tt.status || got.Scope != tt.scope {
				t.Errorf("got status %d, scope %v; want %d, %v", got.Status, got.Scope, tt.status, tt.scope)
			}
			if got.Reply != in.Reply {
				t.Errorf("changed: %+v", got)
			}
		})
	}
}

func TestGivenStays(t *testing.T) {
	r := mustRules(t)
	nx := mail.Outcome{Result: mail.Failed, Stage: mail.StageDNS}
	if got := r.Classify("", nx, "a@b.example"); got.Status != mail.StatusHostUnknown {
		t.Errorf("no such name: %+v", got)
	}
	expired := mail.Outcome{Result: mail.Failed, Status: mail.StatusTimeout, Detail: "lifetime exceeded"}
	if got := r.Classify("", expired, "a@b.example"); got.Status != mail.StatusTimeout {
		t.Errorf("expired: %+v", got)
	}
	ok := mail.Outcome{Result: mail.Delivered, Stage: mail.StageDot, Reply: smtp.Reply{Code: 250, Text: "user unknown is no news here"}}
	if got := r.Classify("docomo", ok, "a@docomo.ne.jp"); got != ok {
		t.Errorf("delivered: %+v", got)
	}
}

// TestLint: every row names its source and is reached by its own example.
func TestLint(t *testing.T) {
	r := mustRules(t)
	for receiver, rules := range r.byReceiver {
		for _, one := range rules {
			w := one.row
			t.Run(receiver+"/"+w.Example, func(t *testing.T) {
				if w.Source == "" || w.Date == "" || (w.Example == "") == (len(w.Silence) == 0) {
					t.Fatal("no source, date or example")
				}
				if len(w.Silence) > 0 {
					return
				}
				at := w.At
				if at == "" {
					at = "rcpt"
				}
				st, ok := stage(at)
				if !ok {
					t.Fatal("no such stage")
				}
				reply := mustReply(t, w.Example)
				f := &facts{stage: st, reply: reply, text: strings.ToLower(reply.Text), address: w.Address == "present"}
				if got := r.match(receiver, f); got != one {
					t.Errorf("reached %+v instead", got)
				}
			})
		}
	}
}

func FuzzClassify(f *testing.F) {
	f.Add("docomo", uint8(mail.StageDot), 550, "Unknown user <a@docomo.ne.jp>", "a@docomo.ne.jp")
	f.Add("", uint8(0), 0, "<<@>", "")
	r := mustRules(f)
	f.Fuzz(func(t *testing.T, receiver string, st uint8, code int, text, to string) {
		for _, res := range []mail.Result{mail.Delivered, mail.Deferred, mail.Failed} {
			in := mail.Outcome{Result: res, Stage: mail.Stage(st), Reply: smtp.Reply{Code: code, Text: text}}
			out := r.Classify(receiver, in, mail.Address(to))
			if out.Result != res || (res != mail.Delivered) != (out.Status != mail.StatusNone) {
				t.Fatalf("%+v became %+v", in, out)
			}
		}
	})
}

func BenchmarkDelivered(b *testing.B) {
	r := mustRules(b)
	o := mail.Outcome{Result: mail.Delivered, Stage: mail.StageDot, Reply: smtp.Reply{Code: 250, Text: "ok"}}
	b.ReportAllocs()
	for b.Loop() {
		o = r.Classify("docomo", o, "a@docomo.ne.jp")
	}
}

func BenchmarkUnknownReply(b *testing.B) {
	r := mustRules(b)
	o := outcome(b, mail.StageDot, "451 something that no rule has ever heard of, in a line of the usual length")
	b.ReportAllocs()
	for b.Loop() {
		r.Classify("google", o, "a@gmail.com")
	}
}
