package webhook

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/ekiden-mta/ekiden/mail"
)

// TestStatusesChange: a post that is not taken yet is said again in the same words, under the same name, also where the hook
// wants fewer statuses, or none of it, since then.
func TestStatusesChange(t *testing.T) {
	for name, statuses := range map[string]string{"fewer": "failed", "none of it": "succeeded"} {
		t.Run(name, func(t *testing.T) {
			r, to := newRig(t), startReceiver(t, func(n int) int { return map[bool]int{true: 503, false: 200}[n == 1] })
			hook := Hook{Tenant: "shop", URL: to.URL, Type: Deliveries}
			r.poster.Use([]Hook{hook})
			list := accepted(0, 3)
			r.log.add(append(list, after(list[0], mail.EventFailed, 550, "", 2))...)
			first := to.next(t)
			mustBecome(t, "the failure is known", func() bool { return r.count(ResultFailed) == 4 })
			hook.Statuses = statuses
			r.poster.Use([]Hook{hook})
			again := to.next(t)
			if again.body != first.body || again.head.Get("webhook-id") != first.head.Get("webhook-id") {
				t.Errorf("said again in other words:\n%s\n%s", first.body, again.body)
			}
			r.log.add(list[1], after(list[1], mail.EventFailed, 550, "", 2), after(list[2], mail.EventDelivered, 250, "", 0))
			if p := to.next(t); len(p.Events) != 1 || p.Sequence != 2 || !strings.Contains(p.body, statuses) {
				t.Errorf("then %s", p.body)
			}
		})
	}
}

// TestRemoved: a hook that is put back begins with the events that come, also where it went while the node was down.
func TestRemoved(t *testing.T) {
	for _, down := range []bool{false, true} {
		t.Run(fmt.Sprintf("down %v", down), func(t *testing.T) {
			r, to := newRig(t), startReceiver(t, nil)
			hooks := []Hook{{Tenant: "shop", URL: to.URL, Type: Deliveries}}
			r.poster.Use(hooks)
			r.log.add(accepted(0, 1)...)
			to.next(t)
			if down {
				r.poster.Close()
				r.log.add(accepted(1, 1)...)
				r.start(func(netip.AddrPort) error { return nil })
			}
			r.poster.Use(nil)
			r.log.add(accepted(2, 1)...)
			r.poster.Use(hooks)
			r.log.add(accepted(3, 1)...)
			if p := to.next(t); p.Sequence != 1 || !slices.Equal(p.to(), []string{"rcpt3@a.test"}) {
				t.Errorf("post %d to %v", p.Sequence, p.to())
			}
		})
	}
}

// TestTakenOver: events of mail that was accepted on another member name the composition and the reference data that they have
// themselves.
func TestTakenOver(t *testing.T) {
	r, to := newRig(t), startReceiver(t, nil)
	r.poster.Use([]Hook{{Tenant: "shop", URL: to.URL, Type: Deliveries}})
	e := after(accepted(0, 1)[0], mail.EventDelivered, 250, "", 0)
	e.Composition, e.APIData = "main", "k9"
	r.log.add(e)
	if p := to.next(t); p.Composition != "main" || !strings.Contains(p.body, `"apiData":"k9"`) {
		t.Errorf("%s", p.body)
	}
}
