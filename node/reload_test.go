package node_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/node"
)

// TestReloadOfTheNodeFile: other routes count at once, also for mail that waits; what counts from the next start on is named.
func TestReloadOfTheNodeFile(t *testing.T) {
	first, second := startReceiver(t, "127.0.0.1:0", nil), startReceiver(t, "127.0.0.1:0", nil)
	r := newRig(t, to(first), "")
	c := r.session()
	c.mustSend(text(""), "a@x.test")
	first.mustGet(t, 1)
	due := time.Unix(r.now(), 0).Add(time.Hour)
	c.mustSend(text("X-Relay-Start-Time: "+due.UTC().Format(time.RFC3339)+"\n"), "waits@y.test")

	next := r.cfg
	next.Delivery.Routes = []node.RouteConfig{{Domain: "*", To: fmt.Sprint(second.Addr())}}
	next.Delivery.Helo = "other.test"
	next.SMTP.Listeners = append(slices.Clone(next.SMTP.Listeners), node.ListenerConfig{Address: "127.0.0.1:0"})
	next.Log.Level = "debug"
	waiting, err := r.node.Reload(next)
	if want := []string{"smtp.listeners", "delivery.helo"}; err != nil || !slices.Equal(waiting, want) {
		t.Fatalf("waiting for a restart: %q, %v; want %q", waiting, err, want)
	}
	c.mustSend(text(""), "b@z.test")
	second.mustGet(t, 1)
	r.advance(61 * time.Minute)
	second.mustGet(t, 2)

	waiting, err = r.node.Reload(r.cfg)
	if err != nil || len(waiting) > 0 {
		t.Errorf("back to the first file: %q, %v", waiting, err)
	}
	r.session().mustSend(text(""), "d@last.test")
	first.mustGet(t, 2)
	r.atRest()
}
