package settings

import "time"

// Names and defaults of the settings (contract 4, requirements R8-R10, R24, R33, R46, R58, E-11, E-12).
const (
	DefaultName           = "default" // of the tenant, the composition and the pool that exist without a file
	DefaultGroupHeader    = "X-Relay-Group"
	DefaultCleaningHeader = "X-KAEDE-Cleaning"
	DefaultAppointHeader  = "X-KAEDE-Appoint"

	DefaultRetryInterval = Duration(time.Minute)
	DefaultLifetime      = Duration(30 * time.Minute)
)

// Default is what a node without a settings file runs (contract 2): one tenant with one composition that relays for
// loopback clients with any FROM domain.
func Default() *Settings {
	s := &Settings{Tenants: []Tenant{{
		Name: DefaultName,
		Compositions: []Composition{{
			Name:     DefaultName,
			Networks: []string{"127.0.0.0/8", "::1"},
		}},
	}}}
	s.Fill()
	return s
}

// Fill puts the defaults where the file said nothing, so that every reader sees what is in force.
func (s *Settings) Fill() {
	for i := range s.Tenants {
		s.Tenants[i].fill()
	}
	pool := false
	for i := range s.Warmups {
		set(&s.Warmups[i].Per, "day")
	}
	for i := range s.Pools {
		set(&s.Pools[i].Warmup, "none")
		pool = pool || s.Pools[i].Name == DefaultName
	}
	if !pool { // without sources: those of the node, or what the system chooses
		s.Pools = append(s.Pools, Pool{Name: DefaultName, Warmup: "none"})
	}
	s.SpeedCap.fill()
	s.Alarms.fill()
	for i := range s.Receivers.Rules {
		if !s.Receivers.Rules[i].OnlyReplies() {
			set(&s.Receivers.Rules[i].Queue, "pc")
		}
	}
}

func (t *Tenant) fill() {
	set(&t.Bounce.Format, "classic")
	set(&t.Exclusion.Threshold, 3)
	set(&t.RetentionDays, 40)
	set(&t.CleaningAbove, 10)
	set(&t.Compliance, "off")
	set(&t.InDoubt.Policy, "retry")
	set(&t.Alignment, "off")
	t.SpeedCap.fill()
	for i := range t.Compositions {
		t.Compositions[i].fill()
	}
	for i := range t.Webhooks {
		t.Webhooks[i].fill(tenantEvents())
	}
}

func (c *Composition) fill() {
	for i := range c.Users {
		if c.Users[i].Permissions == nil {
			c.Users[i].Permissions = []string{PermissionSMTP, PermissionHTTP}
		}
		set(&c.Users[i].Role, RoleAdministrator)
	}
	set(&c.Access, "either")
	set(&c.Intake.Sessions, 100)
	set(&c.Intake.SizeKB, 10240)
	set(&c.Headers.Group, DefaultGroupHeader)
	set(&c.Headers.Cleaning, DefaultCleaningHeader)
	set(&c.Headers.Appoint, DefaultAppointHeader)
	set(&c.Retry.Interval, DefaultRetryInterval)
	set(&c.Retry.Lifetime, DefaultLifetime)
	set(&c.Received, "short")
	set(&c.Pool, DefaultName)
	if c.StoreSubject == nil {
		yes := true
		c.StoreSubject = &yes
	}
	c.SpeedCap.fill()
	if c.DeliveryStop != nil {
		set(&c.DeliveryStop.RunAt, "00:00")
	}
}

func (s *SpeedCap) fill() {
	if s.Messages > 0 {
		set(&s.Per, Duration(time.Second))
	}
}

func (a *Alarms) fill() {
	set(&a.LateBounces, 3)
	set(&a.LateBouncesLeast, 10)
	for i := range a.Webhooks {
		a.Webhooks[i].fill(alarmEvents())
	}
}

// set gives *p the default where it holds its zero value.
func set[T comparable](p *T, def T) {
	var zero T
	if *p == zero {
		*p = def
	}
}
