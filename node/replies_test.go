package node_test

import (
	"strings"
	"testing"
	"time"
)

// TestReplyRulesChangeAtRunTime: rules about answers that are applied at one member count at every member from the next
// answer on, without a restart, are listed with their hits over all members, and go as they came (R148).
func TestReplyRulesChangeAtRunTime(t *testing.T) {
	sink := startReceiver(t, "127.0.0.1:0", func(stage, arg string) string {
		if stage == "rcpt" && strings.HasPrefix(arg, "full") {
			return "550 our house is full"
		}
		return ""
	})
	trio := newTrio(t, sink)
	n1, n2 := trio[0], trio[1]
	apply := func(receivers string) {
		t.Helper()
		yaml := "tenants: [{name: shop, compositions: [{name: main, networks: [127.0.0.0/8]}]}]\n" + receivers
		if status := n1.call("POST", "/ekiden.admin.v1.AdminService/ApplySettings", map[string]string{"yaml": yaml}, nil); status != 200 {
			t.Fatalf("apply: %d", status)
		}
	}
	type rule struct {
		Rule string
		Hits int `json:",string"`
	}
	rules := func(r *rig) map[string]int {
		var a struct {
			Rules     []rule
			Receivers []struct {
				Name string
				Hits int `json:",string"`
			}
		}
		r.call("POST", "/ekiden.admin.v1.AdminService/ListReplyRules", map[string]string{}, &a)
		by := map[string]int{}
		for _, one := range a.Rules {
			by[one.Rule] = one.Hits
		}
		for _, one := range a.Receivers {
			by["row "+one.Name] = one.Hits
		}
		return by
	}
	class := func(to string) (class int) {
		t.Helper()
		n2.session().mustSend(text(""), to)
		var a struct{ Events []struct{ Class int } }
		mustBecome(t, to+" refused", func() bool {
			n2.call("POST", "/ekiden.admin.v1.AdminService/SearchEvents", map[string]string{"to": to, "status": "failed"}, &a)
			return len(a.Events) == 1
		})
		return a.Events[0].Class
	}

	if got := class("full1@a.test"); got != 99 {
		t.Fatalf("class %d before there is a rule", got)
	}
	apply(`receivers:
  - {name: b, domains: [b.test]}
  - name: default
    replies: [{name: house, codes: [550], text: [house is full], status: capacity, scope: recipient, source: a letter}]
`)
	if !becomes(10*time.Second, func() bool { _, there := rules(n2)["own/default/house"]; return there }) {
		t.Fatal("n2 does not hear of the rule")
	}
	if got := class("full2@a.test"); got != 5 {
		t.Errorf("class %d under the rule", got)
	}
	if n := rules(n1)["own/default/house"]; n != 1 {
		t.Errorf("%d hits at n1, %d at n2", n, rules(n2)["own/default/house"])
	}
	class("full4@b.test")
	if n := rules(n1); n["row b"] != 1 || n["row docomo"] != 0 {
		t.Errorf("the row of b.test had %d deliveries, docomo's %d", n["row b"], n["row docomo"])
	}
	apply("")
	mustBecome(t, "the rule is gone", func() bool { _, there := rules(n2)["own/default/house"]; return !there })
	if got := class("full3@a.test"); got != 99 {
		t.Errorf("class %d after the rule", got)
	}
}
