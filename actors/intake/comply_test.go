package intake

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ekiden-mta/ekiden/mail/smtp"
	"github.com/ekiden-mta/ekiden/policy/alignment"
	"github.com/ekiden-mta/ekiden/policy/settings"
)

// TestCompliance: what a tenant wants looked at is refused with what to change, or taken with a note in its event; where
// it wants nothing, nothing is looked at (N19).
func TestCompliance(t *testing.T) {
	const bad = "From: a@shop.example\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\n\nHello\n"
	long := plainMail + strings.Repeat("x", 1200) + "\n"
	tests := []struct {
		name, setting, data string
		told                string // code, enhanced code and a part of the text; "" = taken
		noted               string // in the event of acceptance
		counted             string
	}{
		{"off", "off", bad, "", "", "[]"},
		{"fine", "refuse", plainMail, "", "", "[]"},
		{"refused", "refuse", bad, "550 5.6.0 there is no Message-ID: give each", "", "[message_id refused one_click refused]"},
		{"a long line refused", "refuse", long, "550 5.6.0 line 6 has 1200 octets, at most 998", "", "[line_length refused]"},
		{"warned", "warn", bad, "", "warning: message_id: there is no Message-ID", "[message_id warned one_click warned]"},
		{"warned of both", "warn", bad, "", "one_click: one-click unsubscription (RFC 8058) is not covered", "[message_id warned one_click warned]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, nil)
			r.Settings().Settings.Tenants[0].Compliance = tt.setting
			var counted []string
			r.Faulty = func(rule string, refused bool) {
				counted = append(counted, rule, map[bool]string{true: "refused", false: "warned"}[refused])
			}
			_, err := r.Submit(context.Background(), submission(tt.data))
			var told interface{ SMTPReply() smtp.Reply }
			switch {
			case tt.told == "" && err != nil:
				t.Fatal(err)
			case tt.told != "" && !errors.As(err, &told):
				t.Fatalf("got %v", err)
			case tt.told != "":
				reply := told.SMTPReply()
				if got := fmt.Sprintf("%d %s %s", reply.Code, reply.Enhanced, reply.Text); !strings.HasPrefix(got, tt.told) {
					t.Errorf("told %q", got)
				}
				if len(r.store.all) != 0 {
					t.Error("stored all the same")
				}
			default:
				if note := r.store.all[0].Events[0].Detail; !strings.Contains(note, tt.noted) || tt.noted == "" && note != "" {
					t.Errorf("noted %q", note)
				}
			}
			if fmt.Sprint(counted) != tt.counted {
				t.Errorf("counted %v", counted)
			}
		})
	}
}

// A Message-ID that comes again and again is refused from the twenty-first message on.
func TestRepeatedMessageID(t *testing.T) {
	r := newRig(t, nil)
	r.Settings().Settings.Tenants[0].Compliance = "refuse"
	for range 20 {
		r.mustSubmit(t, submission(plainMail))
	}
	if _, err := r.Submit(context.Background(), submission(plainMail)); err == nil || !strings.Contains(err.Error(), "had this Message-ID within a minute") {
		t.Errorf("got %v", err)
	}
}

// TestStanding: what is held against the sender is a fault of its own, that the tenant's other setting does not touch; the
// message tells who it claims to come from (N19).
func TestStanding(t *testing.T) {
	for _, tt := range []struct {
		name, compliance, alignment, data, told, noted string
	}{
		{"off", "refuse", "off", plainMail, "", ""},
		{"refused", "off", "refuse", plainMail, "550 5.7.23 no record: publish one", ""},
		{"both noted", "warn", "warn", "From: x@Shop.example\n\nHello\n", "", "warning: message_id: there is no Message-ID: give each message one of its own, such as <unique@your.domain>; spf: no record"},
		{"one refused, one noted", "warn", "refuse", "From: x@shop.example\n\nHello\n", "550 5.7.23 no record: publish one", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, nil)
			tenant := &r.Settings().Settings.Tenants[0]
			tenant.Compliance, tenant.Alignment = tt.compliance, tt.alignment
			r.Standing = func(m *settings.Member, id alignment.Identity) []alignment.Finding {
				if m.Tenant != tenant || id.From != "shop.example" || id.Envelope == "" {
					t.Errorf("%+v", id)
				}
				return []alignment.Finding{{Rule: "spf", Text: "no record", Advice: "publish one", Code: smtp.EnhancedCode{Class: 5, Subject: 7, Detail: 23}}}
			}
			_, err := r.Submit(context.Background(), submission(tt.data))
			var told interface{ SMTPReply() smtp.Reply }
			if tt.told != "" {
				if !errors.As(err, &told) {
					t.Fatalf("got %v", err)
				}
				if reply := told.SMTPReply(); fmt.Sprintf("%d %s %s", reply.Code, reply.Enhanced, reply.Text) != tt.told {
					t.Errorf("told %+v", reply)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if note := r.store.all[0].Events[0].Detail; note != tt.noted {
				t.Errorf("noted %q", note)
			}
		})
	}
}
