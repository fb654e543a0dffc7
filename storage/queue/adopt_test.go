package queue

import (
	"bufio"
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/storage/events"
	"github.com/ekiden-mta/ekiden/storage/seal"
	"github.com/ekiden-mta/ekiden/storage/stats"
)

// adoption returns the mail that a standby holds of the store of lineage l.
func adoptionOf(l mail.Lineage, records map[string]string) Adoption {
	return Adoption{Lineage: l, Note: "taken over from n1", Records: func(each func(key, value []byte) error) error {
		for k, v := range records { // in no order
			if err := each([]byte(k), []byte(v)); err != nil {
				return err
			}
		}
		return nil
	}}
}

func (r *rig) adopt(a Adoption) Adopted {
	r.t.Helper()
	got, err := r.Adopt(r.t.Context(), a)
	if err != nil {
		r.t.Fatal(err)
	}
	return got
}

// estate fills r with mail in every state and returns what waits, by destination in the order of service.
func (r *rig) estate(domains, each int) map[mail.Domain][]mail.Delivery {
	now := r.cfg.Clock.Now()
	for i := range domains * each {
		to := []mail.Address{mail.Address(fmt.Sprintf("u%d@d%d.example.jp", i, i%domains))}
		for j := 1; j < 1+i%4; j++ {
			to = append(to, mail.Address(fmt.Sprintf("u%d@d%d.example.jp", i, (i+j)%domains)))
		}
		a := r.message(fmt.Sprintf("body of %d %s", i, strings.Repeat("x", i*37%3000)), to...)
		for j := range a.Deliveries {
			d := &a.Deliveries[j]
			d.Priority, d.Group, d.InDoubt = uint8(50+i%3), fmt.Sprint("g", i%2), i%5 == 0
			d.Due = now.Add(time.Duration(i%7) * time.Second)
			if i%11 == 0 {
				d.Tenant = "other"
			}
		}
		if i%3 == 0 {
			a.Key = fmt.Sprint("order ", i)
		}
		r.put(a)
		for j := range a.Deliveries {
			switch (i + j) % 6 {
			case 1:
				r.settle(a.Deliveries[j])
			case 2:
				r.later(a.Deliveries[j], now.Add(time.Hour))
			}
		}
	}
	return r.order(domains)
}

func (r *rig) order(domains int) map[mail.Domain][]mail.Delivery {
	all := map[mail.Domain][]mail.Delivery{}
	for i := range domains {
		d := mail.Domain(fmt.Sprintf("d%d.example.jp", i))
		for _, tenant := range []string{"shop", "other"} {
			ds, _, _, _, err := r.Scan(mail.Destination{Domain: d, Tenant: tenant}, Cursor{}, far(r.cfg.Clock.Now()), 1<<20)
			if err != nil {
				r.t.Fatal(err)
			}
			all[d] = append(all[d], ds...)
		}
	}
	return all
}

// same compares deliveries but for what adoption changes.
func same(t *testing.T, got, want map[mail.Domain][]mail.Delivery) {
	t.Helper()
	for domain, ds := range want {
		strip := func(ds []mail.Delivery) []mail.Delivery {
			ds = slices.Clone(ds)
			for i := range ds {
				ds[i].Seq, ds[i].Shared = 0, false
			}
			return ds
		}
		if !slices.Equal(strip(got[domain]), strip(ds)) {
			t.Fatalf("%s: %d deliveries adopted, want %d; or they differ", domain, len(got[domain]), len(ds))
		}
	}
}

// TestAdoptPressingMailFirst: what an operator raised, and reservations whose time is near, do not wait for the backlog.
func TestAdoptPressingMailFirst(t *testing.T) {
	dead, f := newShippingRig(t)
	now := dead.cfg.Clock.Now()
	pressing := map[mail.Address]bool{"urgent@a.example.jp": true, "soon@a.example.jp": true}
	put := func(to mail.Address, priority uint8, due time.Duration) {
		a := dead.message("body", to)
		a.Deliveries[0].Priority, a.Deliveries[0].Due = priority, now.Add(due)
		dead.put(a)
	}
	for i := range 500 {
		put(mail.Address(fmt.Sprintf("bulk%d@a.example.jp", i)), 50, 0)
	}
	put("urgent@a.example.jp", 90, 0)
	put("soon@a.example.jp", 50, time.Minute)
	put("tomorrow@a.example.jp", 50, 24*time.Hour)
	r, _ := newShippingRig(t)
	records := f.standing()
	a := adoptionOf(dead.Lineage(), records)
	var passes []int // records given in each
	a.Records = func(each func(key, value []byte) error) error {
		passes = append(passes, 0)
		for _, k := range slices.Sorted(maps.Keys(records)) {
			passes[len(passes)-1]++
			if err := each([]byte(k), []byte(records[k])); err != nil {
				return err
			}
		}
		return nil
	}
	var order []mail.Address
	a.Offer = func(ds []mail.Delivery) {
		for _, d := range ds {
			order = append(order, d.To)
		}
	}
	if got := r.adopt(a); got.Deliveries != 503 || got.Skipped != 0 || got.Damaged != 0 || len(order) != 503 {
		t.Fatalf("adopted %+v, offered %d", got, len(order))
	}
	if !pressing[order[0]] || !pressing[order[1]] {
		t.Errorf("the first to be offered were %s and %s", order[0], order[1])
	}
	if all := len(records); len(passes) != 3 || passes[0] != all || passes[1] >= all || passes[2] != all {
		t.Errorf("of %d records %v were read: the second pass goes no further than to the last that presses", all, passes)
	}
}

// rest settles everything and checks that nothing of it stays.
func (r *rig) rest(all map[mail.Domain][]mail.Delivery) {
	r.t.Helper()
	for _, ds := range all {
		r.drain(ds)
	}
	for _, kind := range []byte{kindDelivery, kindBody, kindShares, kindAdopted, kindExposed} {
		if left := r.keys(kind); len(left) > 0 {
			r.t.Errorf("%d records of kind %c left", len(left), kind)
		}
	}
	c := r.Counters().Buckets(stats.Total, stats.Of{}, r.cfg.Clock.Now())[0].Counts
	if c[stats.Accepted]+c[stats.TakenOver] != c.Finished() || r.Waiting() != 0 {
		r.t.Errorf("%d accepted, %d taken over, %d finished, %d waiting", c[stats.Accepted], c[stats.TakenOver], c.Finished(), r.Waiting())
	}
}

func TestAdopt(t *testing.T) {
	dead, f := newShippingRig(t)
	want := dead.estate(5, 60)
	total := dead.Waiting()
	bodies := map[mail.MessageID]string{}
	for _, ds := range want {
		for i := range ds {
			bodies[ds[i].Message] = dead.body(ds[i].Message)
		}
	}
	r, own := newShippingRig(t)
	a := adoptionOf(dead.Lineage(), f.standing())
	offered := 0
	a.Offer = func(ds []mail.Delivery) {
		offered += len(ds)
		if got, _, _, _, _ := r.Scan(ds[0].Destination(), Cursor{}, far(r.cfg.Clock.Now()), 1<<20); !slices.ContainsFunc(got, func(d mail.Delivery) bool { return d.Seq == ds[0].Seq }) {
			t.Error("offered before it can be scanned")
		}
	}
	got := r.adopt(a)
	if got.Deliveries != total || offered != total || got.Messages != len(bodies) || got.Damaged != 0 || got.Keys != 100 {
		t.Errorf("adopted %+v, offered %d, want %d deliveries of %d messages", got, offered, total, len(bodies))
	}
	if d := differs(r.live(), own.standing()); d != "" {
		t.Errorf("shipped to the standbys of the new owner: %s", d)
	}
	r.reopen()
	adopted := r.order(5)
	same(t, adopted, want)
	for m, body := range bodies {
		if r.body(m) != body {
			t.Errorf("body of %s differs", m)
		}
	}
	again := r.message("x", "a@d1.example.jp")
	again.Key = "order 3"
	var dup *DuplicateError
	if err := wait(func(done func(error)) { r.Put(again, done) }); !errors.As(err, &dup) || dup.ID.Lineage != dead.Lineage() {
		t.Errorf("idempotency key of the other store: %v", err)
	}
	some := adopted["d2.example.jp"][3]
	var kinds []mail.EventKind
	if err := r.Events().Search(t.Context(), events.Query{Message: some.Message}, func(e mail.Event, _ events.Cursor) bool {
		if kinds = append(kinds, e.Kind); e.Detail != "taken over from n1" || e.Kind.IsFinal() {
			t.Errorf("event %+v", e)
		}
		return true
	}); err != nil || len(kinds) == 0 || kinds[0] != mail.EventTakenOver {
		t.Errorf("events %v, %v", kinds, err)
	}
	// Again: nothing is doubled.
	if twice := r.adopt(a); twice.Deliveries != 0 || twice.Skipped != total {
		t.Errorf("the second time: %+v", twice)
	}
	// The new owner dies too, in the middle of it: whoever adopts both doubles nothing.
	third, _ := newShippingRig(t)
	for _, d := range adopted["d3.example.jp"] {
		r.settle(d)
	}
	adopted["d3.example.jp"] = nil
	third.adopt(adoptionOf(r.Lineage(), own.standing()))
	if more := third.adopt(a); more.Deliveries != 0 {
		t.Errorf("adopted what its last owner had adopted: %+v", more)
	}
	if err := third.AdoptDone(t.Context(), r.Lineage()); err != nil {
		t.Fatal(err)
	}
	if err := third.AdoptDone(t.Context(), dead.Lineage()); err != nil {
		t.Fatal(err)
	}
	same(t, third.order(5), adopted)
	third.rest(third.order(5))
}

// TestAdoptAgain breaks an adoption off again and again.
func TestAdoptAgain(t *testing.T) {
	dead, f := newShippingRig(t)
	want := dead.estate(4, 200)
	r, own := newShippingRig(t)
	own.set(false, short) // what was promised is not refused
	a := adoptionOf(dead.Lineage(), f.standing())
	whole, broken := a.Records, errors.New("broken off")
	total, rounds := 0, 0
	for limit := 300; ; limit += 400 {
		passes := 0
		a.Records = func(each func(key, value []byte) error) error {
			passes++
			n := 0
			return whole(func(key, value []byte) error {
				if n++; passes == 2 && n > limit {
					return broken
				}
				return each(key, value)
			})
		}
		got, err := r.Adopt(t.Context(), a)
		total += got.Deliveries
		if rounds++; err == nil {
			break
		} else if !errors.Is(err, broken) {
			t.Fatal(err)
		}
		if rounds%2 == 0 {
			r.reopen()
		}
	}
	if rounds < 3 || r.Waiting() != dead.Waiting() || total != dead.Waiting() {
		t.Errorf("%d rounds, %d waiting of %d, %d adopted", rounds, r.Waiting(), dead.Waiting(), total)
	}
	if r.ExposedCount() == 0 {
		t.Error("nothing is exposed without standbys")
	}
	if err := r.AdoptDone(t.Context(), dead.Lineage()); err != nil {
		t.Fatal(err)
	}
	all := r.order(4)
	for d, ds := range want {
		if len(all[d]) != len(ds) {
			t.Errorf("%s: %d, want %d", d, len(all[d]), len(ds))
		}
	}
	r.rest(all)
}

// TestAdoptWhatWasHalfAdopted: a store loses its queue while it takes another one in. Whoever has both by their copies, the
// queue that took first, has every message once: those that came over, but for what went out since, and those that the
// store had taken and no standby held.
func TestAdoptWhatWasHalfAdopted(t *testing.T) {
	dead, dying := newShippingRig(t)
	for i := range 500 {
		dead.put(dead.message(fmt.Sprint("body ", i), mail.Address(fmt.Sprintf("u%d@d%d.example.jp", i, i%5))))
	}
	half, f := newShippingRig(t)
	var held map[string]string // by the standbys of half, when it was cut off
	cut, bodies := errors.New("cut off"), 0
	a := adoptionOf(dead.Lineage(), dying.standing())
	a.Offer = func(ds []mail.Delivery) {
		if held != nil {
			return
		}
		for _, d := range ds[:10] {
			half.settle(d)
		}
		held = f.standing()
	}
	records := a.Records
	a.Records = func(each func(key, value []byte) error) error {
		return records(func(key, value []byte) error {
			if key[0] == kindBody {
				if bodies++; bodies == 500+450 { // the first pass sees all of them
					return cut
				}
			}
			return each(key, value)
		})
	}
	adopting := func(what string, r *rig, want bool) {
		t.Helper()
		if begun, err := r.Adopting(dead.Lineage()); begun != want || err != nil {
			t.Errorf("%s: adopting %t, %v", what, begun, err)
		}
	}
	adopting("before", half, false)
	_, err := half.Adopt(t.Context(), a)
	if !errors.Is(err, cut) || held == nil {
		t.Fatal(err)
	}
	adopting("cut off", half, true)

	heir, _ := newShippingRig(t)
	first := heir.adopt(adoptionOf(half.Lineage(), held))
	adopting("the heir of half", heir, true)
	second := heir.adopt(adoptionOf(dead.Lineage(), dying.standing()))
	if first.Deliveries == 0 || second.Deliveries <= 50 || heir.Waiting() != 500-10 {
		t.Errorf("%d of 500 wait, 10 went out before; taken %+v, then %+v", heir.Waiting(), first, second)
	}
	for _, l := range []mail.Lineage{half.Lineage(), dead.Lineage()} {
		if err := heir.AdoptDone(t.Context(), l); err != nil {
			t.Fatal(err)
		}
	}
	adopting("at the end", heir, false)
}

// TestAdoptDamaged: what does not open stays out, everything else comes.
func TestAdoptDamaged(t *testing.T) {
	dead, f := newShippingRig(t)
	var all []*mail.Accepted
	for i := range 30 {
		a := dead.message(strings.Repeat("b", 700+i), "a@d0.example.jp", "b@d1.example.jp")
		a.Key = fmt.Sprint("k", i)
		dead.put(a)
		all = append(all, a)
	}
	records := f.standing()
	flip := func(key []byte) {
		v := []byte(records[string(key)])
		v[len(v)-1] ^= 1
		records[string(key)] = string(v)
	}
	at := dead.spotOf(&all[1].Deliveries[0])
	flip(appendSpot(nil, &at))                                                          // one recipient
	flip(appendMessageKey(nil, kindBody, dead.Lineage(), all[2].ID))                    // a body: both recipients
	delete(records, string(appendMessageKey(nil, kindBody, dead.Lineage(), all[3].ID))) // no body
	records["b"], records["q"], records["d"], records["k"] = "x", "x", "x", "x"
	r, _ := newShippingRig(t)
	got := r.adopt(adoptionOf(dead.Lineage(), records))
	if got.Deliveries != 55 || got.Damaged != 1+3+2+4 || r.Waiting() != 55 {
		t.Errorf("adopted %+v, waiting %d", got, r.Waiting())
	}
	if n := len(r.keys(kindQuarantine)); n != 6 {
		t.Errorf("%d records in quarantine", n)
	}
	if _, err := r.Adopt(t.Context(), adoptionOf(r.Lineage(), nil)); err == nil {
		t.Error("a store adopted itself")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Adopt(ctx, adoptionOf(77, records)); !errors.Is(err, context.Canceled) {
		t.Errorf("ended by its context: %v", err)
	}
}

// adoptEnv names a file with an estate, which the test binary, started again, adopts in the directory named behind it
// until it is killed.
const adoptEnv = "EKIDEN_QUEUE_ADOPT"

type estateFile struct {
	Lineage mail.Lineage
	Records map[string]string
}

func adoptUntilKilled(arg string) error {
	name, dir, _ := strings.Cut(arg, "|")
	raw, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	var e estateFile
	if err := gob.NewDecoder(bytes.NewReader(raw)).Decode(&e); err != nil {
		return err
	}
	root, err := seal.RootFrom(bytes.Repeat([]byte{7}, seal.KeySize))
	if err != nil {
		return err
	}
	s, err := Open(Config{Dir: dir, Ring: seal.NewRing(root), Clock: &clock.Clock{}, MinFree: 1, Ballast: -1, Ship: &fleet{}})
	if err != nil {
		return err
	}
	a := adoptionOf(e.Lineage, e.Records)
	a.Offer = func(ds []mail.Delivery) { // every other one is delivered at once
		for i := 0; i < len(ds); i += 2 {
			if wait(func(done func(error)) { s.Settle(delivered(&ds[i], s.cfg.Clock.Now()), done) }) == nil {
				fmt.Printf("S %s %s\n", ds[i].Message, ds[i].To)
			}
		}
	}
	_, err = s.Adopt(context.Background(), a)
	fmt.Println("done")
	return err
}

// TestAdoptKilled kills the process in the middle of an adoption, several times: nothing is lost, nothing comes back.
func TestAdoptKilled(t *testing.T) {
	dead, f := newShippingRig(t)
	want := map[string]bool{}
	for _, ds := range dead.estate(4, 200) {
		for i := range ds {
			want[ds[i].Message.String()+" "+string(ds[i].To)] = true
		}
	}
	r := newRig(t)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if err := gob.NewEncoder(&buf).Encode(estateFile{dead.Lineage(), f.standing()}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "estate")
	if err := os.WriteFile(file, buf.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	settled := map[string]bool{}
	kills := 0
	for round := 1; round < 20; round++ {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), adoptEnv+"="+file+"|"+r.cfg.Dir)
		pipe, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		done := readSettled(t, pipe, settled, 60*round, cmd.Process)
		_ = cmd.Wait()
		if done {
			break
		}
		kills++
	}
	r.open()
	got := r.adopt(adoptionOf(dead.Lineage(), f.standing()))
	found := map[string]bool{}
	for _, ds := range r.order(4) {
		for i := range ds {
			name := ds[i].Message.String() + " " + string(ds[i].To)
			if found[name] || settled[name] || !want[name] {
				t.Errorf("%s: twice %v, back after its settlement %v", name, found[name], settled[name])
			}
			found[name] = true
			r.body(ds[i].Message)
		}
	}
	lost := 0
	for name := range want {
		if !found[name] && !settled[name] {
			lost++ // settled in the moment of the kill, before it was said
		}
	}
	if kills == 0 || lost > kills {
		t.Errorf("%d kills, %d lost, the last round adopted %+v", kills, lost, got)
	}
	t.Logf("%d kills, %d settled, %d found, %d settled unsaid", kills, len(settled), len(found), lost)
}

// readSettled notes what the child says it settled and kills it after so many lines; true where it came to its end.
func readSettled(t *testing.T, pipe io.Reader, settled map[string]bool, lines int, child *os.Process) bool {
	in := bufio.NewReader(pipe)
	for n := 0; ; n++ {
		line, err := in.ReadString('\n')
		if err != nil {
			return false
		}
		if line == "done\n" {
			return true
		}
		settled[strings.TrimSpace(strings.TrimPrefix(line, "S "))] = true
		if n == lines {
			if err := child.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// quick is a Shipper that answers at once and keeps nothing.
type quick struct{}

func (quick) Ship([]Op, int) uint64                                 { return 1 }
func (quick) WhenHeld(_ uint64, done func(exposed bool, err error)) { done(false, nil) }
func (quick) WhenSettled(_ uint64, done func(error))                { done(nil) }

// BenchmarkAdopt measures the taking over of messages of 1.2 KB from memory, shipped to a standby that answers at once.
func BenchmarkAdopt(b *testing.B) {
	dead, f := newShippingRig(b)
	pour(dead.Store, b.N, 100, 1000, -1)
	r, _ := newShippingRig(b)
	if err := r.Close(); err != nil {
		b.Fatal(err)
	}
	r.cfg.Ship = quick{}
	r.open()
	a := adoptionOf(dead.Lineage(), f.standing())
	if err := dead.Close(); err != nil {
		b.Fatal(err)
	}
	*f = fleet{}
	b.ResetTimer()
	m := measure()
	if got, err := r.Adopt(b.Context(), a); err != nil || got.Deliveries != b.N {
		b.Fatal(got, err)
	}
	m.report(b, b.N)
}
