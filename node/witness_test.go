package node_test

import (
	"fmt"
	"testing"
	"time"
)

// TestWitnessThatLeads: a witness that leads, as who founded the cluster does, gives the queue of a member that is gone to the
// other one.
func TestWitnessThatLeads(t *testing.T) {
	t.Parallel()
	sink := startReceiver(t, "127.0.0.1:0", nil)
	trio := startTrio(t, to(sink), "tenants: [{name: shop, compositions: [{name: main, networks: [127.0.0.0/8]}]}]\n", "n1")
	n2, n3 := trio[1], trio[2]
	n2.takesMail()
	n3.takesMail()
	if !n3.members()["n1"].Leader {
		t.Skip("another leads: its elections were too slow for the witness")
	}
	n2.session().mustSend(text(fmt.Sprintf("X-KAEDE-Appoint: %d\n", n2.now()+3600)), "later@a.test")
	n2.stop()
	if !becomes(40*time.Second, func() bool { return waiting(n3) == 1 }) {
		t.Errorf("the queue of n2 is not taken over: %+v", n3.members())
	}
}
