package node_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/storage/seal"
)

const adminPath = "/ekiden.admin.v1.AdminService/"

// rotated is the answer of RotateKeys.
type rotated struct {
	Keys struct {
		Version, Next int
		Since         time.Time
	}
	RecoveryCode string `json:"recovery_code"`
	Message      string
}

// suspended is the domain whose mail waits meanwhile.
func suspended() map[string]any {
	return map[string]any{"subject": map[string]string{"domain": "held.test"}}
}

// heritage is how much the key files carry over from earlier root keys, in characters.
func (r *rig) heritage() int {
	r.Helper()
	raw, err := os.ReadFile(filepath.Join(r.dir, "data", "keys", "recovery.json"))
	if err != nil {
		r.Fatal(err)
	}
	var s struct{ Heritage string }
	if err := json.Unmarshal(raw, &s); err != nil {
		r.Fatal(err)
	}
	return len(s.Heritage)
}

// audited tells whether an action stands in the audit trail.
func (r *rig) audited(action string) bool { return r.timesAudited(action) > 0 }

// timesAudited is how many lines of the audit trail tell of an action.
func (r *rig) timesAudited(action string) (n int) {
	r.Helper()
	var a struct {
		Entries []struct{ Action, Author string }
	}
	r.call("POST", adminPath+"ListAudit", map[string]any{}, &a)
	for _, e := range a.Entries {
		if e.Action == action {
			n++
		}
	}
	return n
}

// rotateAlone has a node alone draw the root key of a version, and waits until it is in force. It is refused for a moment while
// the one before is still to be.
func (r *rig) rotateAlone(version int) (got rotated) {
	r.Helper()
	mustBecome(r.T, "the rotation is begun", func() bool {
		return r.call("POST", adminPath+"RotateKeys", map[string]any{}, &got) == 200
	})
	mustBecome(r.T, "the new key is in force", func() bool {
		k := r.keys()
		return k.Version == version && k.Next == 0 && !k.Since.IsZero()
	})
	return got
}

// TestRotateKeys: the new code opens what was accepted and agreed on before, the former one opens nothing.
func TestRotateKeys(t *testing.T) {
	sink := startReceiver(t, "127.0.0.1:0", nil)
	r := newRig(t, to(sink), "")
	if status := r.call("POST", adminPath+"Suspend", suspended(), nil); status != 200 {
		t.Fatalf("suspend: %d", status)
	}
	r.session().mustSend(text(""), "before@held.test")
	former := r.code
	for version := 2; version <= 3; version++ {
		got := r.rotateAlone(version)
		if got.RecoveryCode == "" || got.RecoveryCode == r.code {
			t.Fatalf("rotation %d: %+v", version, got)
		}
		r.code = got.RecoveryCode
	}
	if !r.audited("begin key") || !r.audited("rotate keys") {
		t.Error("the rotation is not in the audit trail")
	}
	r.session().mustSend(text(""), "after@held.test")
	r.stop()
	r.start()
	if status := r.unseal(former); status == 200 {
		t.Fatal("the former code opens the node")
	}
	if status := r.unseal(r.code); status != 200 {
		t.Fatalf("unseal: %d", status)
	}
	if status := r.call("POST", adminPath+"Unsuspend", suspended(), nil); status != 200 {
		t.Fatalf("the suspension of before is not known: %d", status)
	}
	mustBecome(t, "both delivered", func() bool { return sink.count() == 2 })
	r.atRest()
}

// TestRotateKeysCut: what a crash leaves of a rotation is begun again where the new key was not in force, and else done at
// the next start.
func TestRotateKeysCut(t *testing.T) {
	key := filepath.Join(t.TempDir(), "k.bin")
	mustKey := func(octets string) {
		t.Helper()
		if err := os.WriteFile(key, []byte(octets), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	whole := strings.Repeat("k", seal.KeySize)
	mustKey(whole)
	sink := startReceiver(t, "127.0.0.1:0", nil)
	r := newRig(t, to(sink), "", func(s string) string { return strings.Replace(s, "[recovery-code]", "[{file: '"+key+"'}]", 1) })
	r.call("POST", adminPath+"Suspend", suspended(), nil)
	r.session().mustSend(text(""), "u@held.test")

	mustKey("short")
	var got rotated
	if status := r.call("POST", adminPath+"RotateKeys", map[string]any{}, &got); status == 200 || !strings.Contains(got.Message, key) {
		t.Fatalf("rotation with a malformed key: %d %+v", status, got)
	}
	mustKey(whole)
	if r.audited("begin key") {
		t.Fatal("a rotation was begun with a malformed key")
	}
	keys := filepath.Join(r.dir, "data", "keys")
	mustRename := func(from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	mustRename(keys, keys+".aside") // so that the book knows of the rotation, and the key does not follow
	if status := r.call("POST", adminPath+"RotateKeys", map[string]any{}, &got); status == 200 || !r.audited("begin key") {
		t.Fatalf("rotation without files: %d %+v", status, got)
	}
	mustRename(keys+".aside", keys)
	r.stop()
	r.start()
	if r.audited("rotate keys") {
		t.Fatal("a rotation that did not happen is said to be done")
	}

	r.stop()
	v, err := seal.OpenVault(filepath.Join(r.dir, "data"), seal.Config{Providers: []seal.Provider{{Kind: seal.KindFile, Path: key}}, Loopback: true})
	if err == nil {
		_, err = v.AutoUnseal(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	d, err := v.Draw(t.Context())
	if err == nil {
		_, err = v.Take(d) // and here the process dies
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	carried := r.heritage()
	r.start()
	mustBecome(t, "the rotation is done", func() bool { return r.audited("rotate keys") })
	mustBecome(t, "the former wrapping key is not carried over any more", func() bool { return r.heritage() < carried })
	r.stop()
	r.start()
	r.rotateAlone(3)
	r.call("POST", adminPath+"Unsuspend", suspended(), nil)
	mustBecome(t, "delivered", func() bool { return sink.count() == 1 })
	r.atRest()
}
