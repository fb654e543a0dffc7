package node_test

import (
	"testing"
)

// TestRenamedLoneNode: a lone node whose host, or name in the file, has changed goes on under the name that its data directory
// knows, and delivers what waits.
func TestRenamedLoneNode(t *testing.T) {
	sink := startReceiver(t, "127.0.0.1:0", nil)
	r := newRig(t, to(sink), "")
	r.call("POST", "/ekiden.admin.v1.AdminService/Suspend", map[string]string{"domain": "x.test"}, nil)
	r.session().mustSend(text(""), "a@x.test")
	for _, name := range []string{"n2", "n3", "n1"} {
		r.cfg.Node.Name = name
		r.again()
		if got := r.node.Ready(); got.Name != "n1" || got.State != "unsealed" {
			t.Fatalf("started as %s: it is %s and %s, want n1 and unsealed", name, got.Name, got.State)
		}
	}
	r.cfg.Node.Name = "n2"
	r.again()
	r.call("POST", "/ekiden.admin.v1.AdminService/Unsuspend", map[string]string{"domain": "x.test"}, nil)
	r.session().mustSend(text(""), "b@x.test")
	mustBecome(t, "both delivered", func() bool { return len(r.events("status=succeeded")) == 2 })
	r.atRest()
}
