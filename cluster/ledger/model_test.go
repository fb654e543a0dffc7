package ledger

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ekiden-mta/ekiden/mail"
)

// drawn makes a command out of few names, so that commands meet one another.
func drawn(t *rapid.T) Command {
	name := func(what string) string { return rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, what) }
	small := func(what string) uint64 { return rapid.Uint64Range(0, 4).Draw(t, what) }
	base := func() uint64 {
		return rapid.SampledFrom([]uint64{0, 1, 2, 3, 5, 8, Any, Any}).Draw(t, "base")
	}
	by := Signed{Author: rapid.SampledFrom([]string{"", "", "ops"}).Draw(t, "author"), At: moment(rapid.IntRange(0, 50).Draw(t, "at"))}
	lineage := func() LineageEpoch {
		return LineageEpoch{mail.Lineage(rapid.Uint32Range(0, 3).Draw(t, "lineage")), rapid.Uint64Range(1, 3).Draw(t, "epoch")}
	}
	on := func() Suppressed {
		return Suppressed{Scope{List: List(rapid.IntRange(1, 3).Draw(t, "list")), Tenant: name("tenant")}, name("address") + "@a.jp"}
	}
	switch code := commandCode(rapid.IntRange(1, int(codeRelease)).Draw(t, "command")); code {
	case codePutObjects:
		cmd := &PutObjects{Signed: by}
		for i := range rapid.IntRange(1, 3).Draw(t, "objects") {
			cmd.Changes = append(cmd.Changes, ObjectChange{Kind: "k" + fmt.Sprint(i), Name: name("object"), Base: base(),
				Data: []byte(name("data")), Delete: rapid.Bool().Draw(t, "delete")})
		}
		return cmd
	case codeSuppress:
		cmd := &Suppress{Signed: by}
		for range rapid.IntRange(1, 4).Draw(t, "n") {
			v := Suppression{Suppressed: on(), Reason: name("reason")}
			if rapid.Bool().Draw(t, "expires") {
				v.Expires = moment(rapid.IntRange(0, 60).Draw(t, "expiry"))
			}
			cmd.Add = append(cmd.Add, v)
		}
		return cmd
	case codeUnsuppress:
		cmd := &Unsuppress{Signed: by}
		for range rapid.IntRange(1, 4).Draw(t, "n") {
			cmd.Remove = append(cmd.Remove, on())
		}
		return cmd
	case codeRelease:
		cmd := &Release{Signed: by}
		for range rapid.IntRange(1, 4).Draw(t, "n") {
			cmd.Remove = append(cmd.Remove, Found{on(), moment(rapid.IntRange(0, 50).Draw(t, "since"))})
		}
		return cmd
	case codeSetGate:
		return &SetGate{by, Gate{GateID: GateID{name("tenant"), name("group")}, Version: small("version"),
			Closed: rapid.Bool().Draw(t, "closed"), HoldExpiry: rapid.Bool().Draw(t, "hold")}}
	case codeRegister:
		return &Register{Signed: by, Lineage: lineage().Lineage, Node: name("node")}
	case codeRenew:
		return &Renew{by, []LineageEpoch{lineage(), lineage()}}
	case codeTakeover:
		l := lineage()
		return &Takeover{Signed: by, Lineage: l.Lineage, FromEpoch: l.Epoch, IfRenewed: 10 * small("renewed"), NewOwner: name("owner"),
			Force: rapid.Bool().Draw(t, "force")}
	case codeHandover:
		return &Handover{Signed: by, LineageEpoch: lineage(), NewOwner: name("owner")}
	case codeAdopted:
		return &Adopted{by, lineage()}
	case codeCloseLineage:
		return &CloseLineage{by, lineage()}
	case codeSetStandbys:
		return &SetStandbys{by, lineage(), []Standby{{name("standby"), true}}}
	case codeAdmit:
		return &Admit{Signed: by, Name: name("member"), Voter: rapid.Bool().Draw(t, "voter")}
	case codeRemoveMember:
		return &RemoveMember{by, name("member")}
	case codeSeen:
		return &Seen{by, []string{name("member")}}
	case codeBeginKey:
		return &BeginKey{by, small("key"), []byte(name("print"))}
	case codeKeyReady:
		return &KeyReady{by, small("key"), []byte(name("print")), name("member")}
	case codeKeyDone:
		return &KeyDone{by, small("key")}
	case codeKeyWrapped:
		return &KeyWrapped{by, small("key"), name("member")}
	case codePutCredential:
		return &PutCredential{by, Credential{CredentialID: CredentialID{Token, name("token")}, Role: name("role")}, base()}
	case codeDeleteCredential:
		return &DeleteCredential{by, CredentialID{Token, name("token")}}
	case codePutMeta:
		return &PutMeta{by, name("meta"), base(), []byte(rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "data"))}
	default:
		return &Note{Signed: by, Action: name("action")}
	}
}

// The store is the machine and nothing more: whatever is batched, replayed, restarted, snapshot and restored in between.
func TestStoreAgainstThePaper(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := &rig{t: t, cfg: Config{Dir: t.TempDir(), Box: newTestBox(t, "root")}}
		r.open()
		defer func() { _ = r.Close() }()
		p := newPaper()
		var all []Entry
		for range rapid.IntRange(1, 6).Draw(rt, "steps") {
			switch rapid.IntRange(0, 5).Draw(rt, "step") {
			case 0:
				r.reopen()
			case 1:
				if err := r.Restore(bytes.NewReader(r.snapshot())); err != nil {
					rt.Fatal(err)
				}
			case 2:
				if _, err := r.ApplyBatch(all); err != nil {
					rt.Fatal(err)
				}
			default:
				var cmds []Command
				var want []Result
				for range rapid.IntRange(1, 10).Draw(rt, "batch") {
					cmd := drawn(rt)
					_, result := p.apply(rt, cmd)
					cmds, want = append(cmds, cmd), append(want, result)
				}
				list := r.entries(cmds...)
				for i, cmd := range cmds {
					if s, is := cmd.(*Suppress); is && rapid.Bool().Draw(rt, "prepared") {
						list[i].Prepared = prepare(r.cfg.Box, s)
					}
				}
				got, err := r.ApplyBatch(list)
				if diff := cmp.Diff(want, got); err != nil || diff != "" {
					rt.Fatal(err, diff)
				}
				all = append(all, list...)
			}
			agree(rt, r, p)
		}
	})
}

func agree(t *rapid.T, r *rig, p *paper) {
	on := &Store{}
	on.view.Store(&published{State: p.state, mark: mark{Stamp{p.index, min(p.index, 1)}, uint64(len(p.lists))}})
	// A table that was emptied and one that was never filled are the same.
	if diff := cmp.Diff(fmt.Sprint(what(on)...), fmt.Sprint(what(r.Store)...)); diff != "" {
		t.Fatal(diff)
	}
	for _, address := range []string{"a@a.jp", "b@a.jp", "c@a.jp", "d@a.jp"} {
		for _, list := range []List{Blackbox, Unsubscribe, Blocklist} {
			for _, tenant := range []string{"a", "b", "c"} {
				scope := Scope{List: list, Tenant: tenant}
				at, _, _ := p.Find(&Suppressed{scope, address})
				want, there := p.lists[at]
				there = there && want.Live(moment(30))
				got, yes, err := r.Suppressed(address, moment(30), scope)
				if err != nil || yes != there || yes && got != want {
					t.Fatalf("%s %s of %s: %v %v %v, want %v %v", list, address, tenant, got, yes, err, want, there)
				}
			}
		}
	}
	lines, err := r.AuditTail(1000)
	if err != nil || VerifyAudit(lines) != nil || uint64(len(lines)) != p.state.audit.Seq {
		t.Fatalf("audit trail: %v, %v, %d lines of %d", err, VerifyAudit(lines), len(lines), p.state.audit.Seq)
	}
}

// Whatever comes: a lineage's epoch never falls, an epoch has one owner, what is closed stays closed, a gate's version
// never falls and closed wins, and a version of a settings object is never used twice.
func TestMachineInvariants(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := newPaper()
		owners := map[LineageEpoch]string{}
		versions := map[ObjectID]uint64{}
		for range rapid.IntRange(1, 60).Draw(rt, "commands") {
			before := p.state
			p.apply(rt, drawn(rt))
			for _, l := range p.state.Lineages() {
				if was, found := before.Lineage(l.Lineage); found && (l.Epoch < was.Epoch || was.Phase == Closed && l.Phase != Closed) {
					rt.Fatalf("%+v became %+v", was, l)
				}
				if owner, found := owners[l.LineageEpoch]; found && owner != l.Owner {
					rt.Fatalf("%v of %s and %s", l.LineageEpoch, owner, l.Owner)
				}
				owners[l.LineageEpoch] = l.Owner
			}
			for _, g := range p.state.Gates() {
				if was := before.Gate(g.GateID); g.Version < was.Version || g.Version == was.Version && was.Closed && !g.Closed {
					rt.Fatalf("%+v became %+v", was, g)
				}
			}
			for _, o := range p.state.Objects("") {
				if _, there := before.Object(o.Kind, o.Name); !there && o.Version <= versions[o.id()] {
					rt.Fatalf("%v has version %d again", o.id(), o.Version)
				}
				versions[o.id()] = max(versions[o.id()], o.Version)
			}
		}
	})
}

// Copies of a gate may be merged in any order, any number of times.
func TestGateMerge(t *testing.T) {
	gate := rapid.Custom(func(t *rapid.T) Gate {
		g := Gate{Version: rapid.Uint64Range(0, 2).Draw(t, "version"), Closed: rapid.Bool().Draw(t, "closed"),
			RefuseIntake: rapid.Bool().Draw(t, "refuse"), HoldExpiry: rapid.Bool().Draw(t, "hold")}
		if n := rapid.IntRange(0, 2).Draw(t, "discard"); n > 0 {
			g.Discard = moment(n)
		}
		return g
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := gate.Draw(t, "a"), gate.Draw(t, "b"), gate.Draw(t, "c")
		if a.Merge(b) != b.Merge(a) || a.Merge(b).Merge(c) != a.Merge(b.Merge(c)) || a.Merge(a) != a {
			t.Fatal("the order counts")
		}
	})
}

func TestGateMergeTimes(t *testing.T) {
	local := Gate{Discard: time.UnixMilli(moment(3).UnixMilli())}
	if got := local.Merge(Gate{Discard: moment(2)}); !got.Discard.Equal(moment(3)) {
		t.Errorf("discard went back to %v", got.Discard)
	}
}
