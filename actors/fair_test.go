package actors_test

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/actors"
	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/settings"
	"github.com/ekiden-mta/ekiden/policy/shaping"
)

// narrow is a bed whose only receiver bears one connection from one source; order is what was begun, by message.
func narrow(t *testing.T) (b *bed, order func() []mail.Delivery) {
	rules, err := shaping.NewRules([]settings.ReceiverRule{{Name: "narrow", Domains: []string{"*"}, Connections: 1, Rate: -1,
		PerConnection: -1, ConnectionRate: -1, Fixed: true}})
	if err != nil {
		t.Fatal(err)
	}
	b = newBed(t, func(c *actors.Config) {
		c.Rules = func() *shaping.Rules { return rules }
		c.Sources = map[string][]netip.Addr{"default": fourSources[:1]}
	})
	var mu sync.Mutex
	var begun []mail.Delivery
	b.courier.Answer = func(_ protocol.Trip, j *mail.Job) mail.Outcome {
		mu.Lock()
		defer mu.Unlock()
		begun = append(begun, j.Delivery)
		return mail.Outcome{Result: mail.Delivered, Stage: mail.StageDot}
	}
	return b, func() []mail.Delivery {
		mu.Lock()
		defer mu.Unlock()
		return begun[:len(begun):len(begun)]
	}
}

// stored is a delivery of a tenant as the store would give it.
func (b *bed) stored(tenant string, d mail.Domain, priority uint8) mail.Job {
	j := b.job(d)
	j.Delivery.Tenant, j.Delivery.Priority, j.Delivery.Apart = tenant, priority, true
	b.queue.Put(j.Body, j.Delivery)
	return j
}

// TestUrgentMailPassesTheBulk: mail of priority 90 leaves next, though 200,000 of priority 50 wait for the same receiver
// before it, most of them on disk (R35, N11).
func TestUrgentMailPassesTheBulk(t *testing.T) {
	const backlog, urgent = 200_000, 1000
	b, order := narrow(t)
	for range backlog {
		b.stored("t", "one.example", 50)
	}
	b.Recover(mail.Destination{Domain: "one.example", Tenant: "t"}, backlog, 0, b.clock.Now())
	b.until(t, func() bool { return len(order()) > 100 })
	before := len(order())
	for range urgent {
		b.Offer([]mail.Job{b.stored("t", "one.example", 90)})
	}
	offered := len(order())
	rest := func() (n, bulk int) { // urgent ones begun, and bulk begun before the last of them
		for _, d := range order()[before:] {
			if d.Priority == 90 {
				n++
			} else if n < urgent {
				bulk++
			}
		}
		return n, bulk
	}
	b.until(t, func() bool { n, _ := rest(); return n == urgent })
	_, bulk := rest()
	if most := offered - before + 2; bulk > most { // what went while they came, and what was in hand
		t.Errorf("%d of the bulk went before the last urgent one, want at most %d", bulk, most)
	}
	if b.queue.Left("one.example") < backlog/2 {
		t.Error("the bulk was gone: nothing was overtaken")
	}
}

// TestReservationKeepsItsTime: mail that waited for its moment, or was raised, waits for the end of a turn, and not for a
// turn of each of its tenant's 40 domains with a backlog for the same receiver (R26, N11).
func TestReservationKeepsItsTime(t *testing.T) {
	for _, c := range []struct {
		name  string
		raise func(*mail.Delivery)
		turns bool // it waits for those of all others
	}{
		{"reserved", func(d *mail.Delivery) { d.Reserved = true }, false},
		{"raised", func(d *mail.Delivery) { d.Priority = 51 }, false},
		{"reserved and tried before", func(d *mail.Delivery) { d.Reserved, d.Attempts = true, 1 }, true},
		{"bulk", func(*mail.Delivery) {}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			const domains, each, few, quantum = 40, 200, 20, 100
			b, order := narrow(t)
			b.courier.Slow = func(*mail.Job) { time.Sleep(100 * time.Microsecond) } // a turn lasts longer than to ask for the next
			for i := range domains {
				d := mail.Domain(fmt.Sprintf("d%d.example", i))
				for range each {
					b.stored("t", d, 50)
				}
				b.Recover(mail.Destination{Domain: d, Tenant: "t"}, each, 0, b.clock.Now())
			}
			b.until(t, func() bool { return len(order()) > 2*quantum })
			var jobs []mail.Job
			for range few {
				j := b.job("reserved.example")
				j.Delivery.Tenant, j.Delivery.Priority, j.Delivery.Apart = "t", 50, true
				c.raise(&j.Delivery)
				b.queue.Put(j.Body, j.Delivery)
				jobs = append(jobs, j)
			}
			b.Offer(jobs)
			before := len(order())
			bulk := func() (n, bulk int) { // reserved ones begun, and bulk begun before the last of them
				for _, d := range order()[before:] {
					if d.Domain == "reserved.example" {
						n++
					} else if n < few {
						bulk++
					}
				}
				return n, bulk
			}
			b.until(t, func() bool { n, _ := bulk(); return n == few })
			if _, bulk := bulk(); c.turns != (bulk > 5*quantum) {
				t.Errorf("%d of the bulk went before the last of them", bulk)
			}
		})
	}
}

// TestTenantsTakeTurns: a tenant with much to send, of a larger priority and to many domains, does not keep another waiting,
// nor is it kept waiting by the other's urgent mail; they have turns (N11).
func TestTenantsTakeTurns(t *testing.T) {
	const backlog, few = 3000, 200
	b, order := narrow(t)
	b.courier.Slow = func(*mail.Job) { time.Sleep(200 * time.Microsecond) } // a fast receiver; a turn lasts longer than to ask for the next
	for i := range backlog {
		b.Offer([]mail.Job{b.stored("big", mail.Domain(fmt.Sprintf("d%d.example", i%40)), 90)})
	}
	b.until(t, func() bool { return len(order()) > 200 })
	before := len(order())
	for range few {
		b.Offer([]mail.Job{b.stored("small", "d0.example", 10)})
	}
	small := func() (n, big int) {
		for _, d := range order()[before:] {
			if d.Tenant == "small" {
				n++
			} else if n < few {
				big++
			}
		}
		return n, big
	}
	b.until(t, func() bool { n, _ := small(); return n == few })
	if _, big := small(); big > 3*few+300 { // a turn each, and what went while they came
		t.Errorf("%d of the big tenant's went before the small one's %d were out", big, few)
	} else if big == 0 {
		t.Error("the big tenant had no turn")
	}
	if b.queue.Left("") < backlog/4 {
		t.Error("there was no backlog any more")
	}
}
