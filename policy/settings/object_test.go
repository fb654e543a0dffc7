package settings

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func mustSplit(t *testing.T, s *Settings) []Object {
	t.Helper()
	objects, err := Split(s)
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

func TestJoinPutsTogetherWhatSplitTookApart(t *testing.T) {
	src, err := readTestdata("contract.yaml")
	if err != nil {
		t.Fatal(err)
	}
	const two = "{name: %, compositions: [{name: c, networks: [127.0.0.1]}]}"
	for name, text := range map[string]string{
		"contract": string(src),
		"order of the file": "tenants: [" + strings.ReplaceAll(two, "%", "zulu") + "," + strings.ReplaceAll(two, "%", "alfa") + "]\n" +
			"pools: [{name: p2}, {name: p1}, {name: default}]\naccounts: [{name: b, role: viewer}, {name: a, role: viewer}]\n",
		"allow and hours": "tenants: [" + strings.ReplaceAll(two, "%", "a") + "]\nallow: [{address: 192.0.2.0/24, console: true}]\n" +
			"sending_hours: [{domain: \"*\", from: \"08:00\", to: \"21:00\"}]\n" +
			"warmups: [{name: slow, per: hour, steps: [10, 20]}, {name: slower, steps: [5], earned: true}]\n",
	} {
		t.Run(name, func(t *testing.T) {
			s := mustDecode(t, text)
			s.Receivers.File = "" // objects hold the rules themselves
			objects := mustSplit(t, s)
			rand.Shuffle(len(objects), func(i, j int) { objects[i], objects[j] = objects[j], objects[i] })
			back, err := Join(objects)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(s, back, cmpopts.EquateEmpty()); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
			if err := back.Validate(); err != nil {
				t.Error(err)
			}
			if put, remove := Edits(objects, mustSplit(t, back)); len(put)+len(remove) > 0 {
				t.Errorf("a round trip changes objects: %v %v", put, remove)
			}
		})
	}
}

func TestJoinPassesOverWhatANewerVersionWrote(t *testing.T) {
	objects := mustSplit(t, Default())
	objects = append(objects, Object{Kind: "novelty", Name: "x", Data: []byte("?")})
	objects[0].Data = []byte(strings.Replace(string(objects[0].Data), "{", `{"novelty":1,`, 1))
	s, err := Join(objects)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Default(), s, cmpopts.EquateEmpty()); d != "" {
		t.Error(d)
	}
	if _, err := Join([]Object{{Kind: KindTenant, Name: "x", Data: []byte("{")}}); err == nil {
		t.Error("broken data was read")
	}
}

const before = `tenants:
  - name: shop
    compositions:
      - {name: main, networks: [127.0.0.1], users: [{name: u, secret_hash: "argon2id:$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2g"}]}
      - {name: second, retry: {interval: 2m}}
    webhooks: [{url: "https://a.example/", secret: one}, {url: "https://me:pw1@b.example/"}]
  - {name: old, compositions: [{name: c}]}
pools: [{name: default, sources: [192.0.2.1]}]
`

func TestDiff(t *testing.T) {
	tests := []struct{ name, from, to, want string }{
		{"nothing", "", "", ""},
		{"a value", "{interval: 2m}", "{interval: 3m}", "changed tenant shop\n    compositions[second].retry.interval: 2m0s -> 3m0s\n"},
		{"a flag", "name: second,", "name: second, cleaning_default: true,",
			"changed tenant shop\n    compositions[second].cleaning_default: false -> true\n"},
		{"a secret", "secret: one", "secret: two",
			"changed tenant shop\n    webhooks[https://a.example/].secret: (secret) -> (another secret)\n"},
		{"a password in a url", "me:pw1", "me:pw2",
			"changed tenant shop\n    webhooks[https://me:xxxxx@b.example/].url (password): (secret) -> (another secret)\n"},
		{"a hash", "aGFzaGhhc2g", "aGFzaGhhc2h",
			"changed tenant shop\n    compositions[main].users[u].secret_hash: (secret) -> (another secret)\n"},
		{"a list", "[192.0.2.1]", "[192.0.2.1, 192.0.2.2]",
			"changed pool default\n    sources: [\"192.0.2.1\"] -> [\"192.0.2.1\",\"192.0.2.2\"]\n"},
		{"an object more", "pools: [", "pools: [{name: bulk, sources: [192.0.2.9]}, ",
			"added pool bulk\n    sources: [\"192.0.2.9\"]\n    warmup: none\n"},
		{"an object less", "  - {name: old, compositions: [{name: c}]}\n", "", "removed tenant old\nremoved order tenant\n"},
		{"only the order", "- {name: second, retry: {interval: 2m}}", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			after := strings.Replace(before, tt.from, tt.to, 1)
			if tt.name == "only the order" {
				line := "      - {name: second, retry: {interval: 2m}}\n"
				after = strings.Replace(strings.Replace(before, line, "", 1), "      - {name: main", line+"      - {name: main", 1)
				tt.want = "changed tenant shop\n    compositions (order): main, second -> second, main\n"
			}
			old, now := mustDecode(t, before), mustDecode(t, after)
			changes := Diff(old, now)
			if got := Difference(changes); got != tt.want {
				t.Errorf("got\n%swant\n%s", got, tt.want)
			}
			put, remove := Edits(mustSplit(t, old), mustSplit(t, now))
			if len(put)+len(remove) != len(changes) {
				t.Errorf("%d objects change, the difference tells of %d", len(put)+len(remove), len(changes))
			}
			hidden := slices.ContainsFunc(changes, func(c Change) bool {
				return slices.ContainsFunc(c.Lines, func(l Line) bool { return strings.Contains(l.Old+l.New, "aGFzaGh") || l.New == "two" })
			})
			if hidden {
				t.Error("a secret is shown")
			}
		})
	}
}
