// Package settings is what the operator decides about tenants, sources and receivers (contract: docs/settings.md):
// the values, their defaults, their validation, and the look-ups the other rooms need.
//
// It is pure: it reads bytes, never files, and never asks who else is running. A *Settings is immutable once
// validated; a change is a new one.
package settings

// Settings is the whole replicated book of settings.
type Settings struct {
	Tenants      []Tenant      `yaml:"tenants" json:"tenants"`
	Pools        []Pool        `yaml:"pools,omitempty" json:"pools,omitempty"`
	Receivers    Receivers     `yaml:"receivers,omitempty" json:"receivers,omitempty"`
	SendingHours []SendingHour `yaml:"sending_hours,omitempty" json:"sending_hours,omitempty"`
	Allow        []Allow       `yaml:"allow,omitempty" json:"allow,omitempty"`
	Accounts     []Account     `yaml:"accounts,omitempty" json:"accounts,omitempty"`
	SpeedCap     SpeedCap      `yaml:"speed_cap,omitempty" json:"speed_cap,omitempty"` // of all mail, over all members
	Warmups      []Warmup      `yaml:"warmups,omitempty" json:"warmups,omitempty"`
	Alarms       Alarms        `yaml:"alarms,omitempty" json:"alarms,omitempty"`
}

// Alarms is from what on somebody should look.
type Alarms struct {
	LateBounces      int `yaml:"late_bounces,omitempty" json:"late_bounces,omitempty"`             // percent of what a receiver took within a day (N17); default 3, -1 = never
	LateBouncesLeast int `yaml:"late_bounces_least,omitempty" json:"late_bounces_least,omitempty"` // and so many at least; default 10

	Webhooks []Webhook `yaml:"webhooks,omitempty" json:"webhooks,omitempty"` // where alarms are posted; no tenant's
}

// Tenant is a customer.
type Tenant struct {
	Name          string        `yaml:"name" json:"name"`
	Bounce        Bounce        `yaml:"bounce,omitempty" json:"bounce,omitempty"`
	BlackBox      bool          `yaml:"blackbox,omitempty" json:"blackbox,omitempty"`
	Exclusion     Exclusion     `yaml:"exclusion,omitempty" json:"exclusion,omitempty"`
	RetentionDays int           `yaml:"retention_days,omitempty" json:"retention_days,omitempty"` // 1-90, default 40
	CleaningAbove int           `yaml:"cleaning_above,omitempty" json:"cleaning_above,omitempty"` // percent of unknown users (D2); default 10, -1 = never
	Compliance    string        `yaml:"compliance,omitempty" json:"compliance,omitempty"`         // off (default), warn, refuse (N19)
	InDoubt       InDoubt       `yaml:"in_doubt,omitempty" json:"in_doubt,omitempty"`
	Alignment     string        `yaml:"alignment,omitempty" json:"alignment,omitempty"` // likewise: what the DNS says of the sender (N19)
	SourceIPQuota int           `yaml:"source_ip_quota,omitempty" json:"source_ip_quota,omitempty"`
	Compositions  []Composition `yaml:"compositions" json:"compositions"`
	Speed         []Speed       `yaml:"speed,omitempty" json:"speed,omitempty"`
	Webhooks      []Webhook     `yaml:"webhooks,omitempty" json:"webhooks,omitempty"`
	SpeedCap      SpeedCap      `yaml:"speed_cap,omitempty" json:"speed_cap,omitempty"`
}

// Composition is a server composition: a named set of relay and delivery settings.
type Composition struct {
	Name            string        `yaml:"name" json:"name"`
	Networks        []string      `yaml:"networks,omitempty" json:"networks,omitempty"`         // addresses or CIDRs
	FromDomains     []string      `yaml:"from_domains,omitempty" json:"from_domains,omitempty"` // empty: any
	Users           []User        `yaml:"users,omitempty" json:"users,omitempty"`
	Access          string        `yaml:"access,omitempty" json:"access,omitempty"` // either (default), network, both (R5)
	Intake          Intake        `yaml:"intake,omitempty" json:"intake,omitempty"`
	Headers         Headers       `yaml:"headers,omitempty" json:"headers,omitempty"`
	CleaningDefault bool          `yaml:"cleaning_default,omitempty" json:"cleaning_default,omitempty"`
	Retry           Retry         `yaml:"retry,omitempty" json:"retry,omitempty"`
	Received        string        `yaml:"received,omitempty" json:"received,omitempty"` // short (default), normal, keep, strip (R58)
	EnvelopeFrom    EnvelopeFrom  `yaml:"envelope_from,omitempty" json:"envelope_from,omitempty"`
	Priority        []Priority    `yaml:"priority,omitempty" json:"priority,omitempty"`
	QuietHours      []QuietHours  `yaml:"quiet_hours,omitempty" json:"quiet_hours,omitempty"`
	Forward         []Forward     `yaml:"forward,omitempty" json:"forward,omitempty"`
	Unsubscribe     []Unsubscribe `yaml:"unsubscribe,omitempty" json:"unsubscribe,omitempty"`
	DeliveryStop    *DeliveryStop `yaml:"delivery_stop,omitempty" json:"delivery_stop,omitempty"`
	Pool            string        `yaml:"pool,omitempty" json:"pool,omitempty"`                   // default "default"
	StoreSubject    *bool         `yaml:"store_subject,omitempty" json:"store_subject,omitempty"` // default true
	DKIM            []DKIM        `yaml:"dkim,omitempty" json:"dkim,omitempty"`
	SpeedCap        SpeedCap      `yaml:"speed_cap,omitempty" json:"speed_cap,omitempty"`
}

// Bounce says how failures are told to the tenant.
type Bounce struct {
	Format     string `yaml:"format,omitempty" json:"format,omitempty"` // classic (default), dsn, none
	To         string `yaml:"to,omitempty" json:"to,omitempty"`
	OwnDomain  bool   `yaml:"own_domain,omitempty" json:"own_domain,omitempty"`
	ReturnPath bool   `yaml:"return_path,omitempty" json:"return_path,omitempty"` // to the Return-Path header that was submitted (E-17)
}

// InDoubt says what becomes of mail whose final dot was never answered (N3): retry, hold or give_up.
type InDoubt struct {
	Policy string         `yaml:"policy,omitempty" json:"policy,omitempty"` // default retry
	Groups []InDoubtGroup `yaml:"groups,omitempty" json:"groups,omitempty"`
}

// InDoubtGroup is what holds for one delivery group in place of InDoubt.Policy.
type InDoubtGroup struct {
	Name   string `yaml:"name" json:"name"`
	Policy string `yaml:"policy" json:"policy"`
}

// Exclusion is error-address management (R100).
type Exclusion struct {
	Enabled   bool `yaml:"enabled,omitempty" json:"enabled,omitempty"`
	Threshold int  `yaml:"threshold,omitempty" json:"threshold,omitempty"` // 1-99, default 3
}

// User may use AUTH or the HTTP API (R132).
type User struct {
	Name          string   `yaml:"name" json:"name"`
	SecretHash    string   `yaml:"secret_hash" json:"secret_hash"`                     // "argon2id:" + PHC string
	Permissions   []string `yaml:"permissions,omitempty" json:"permissions,omitempty"` // smtp, http
	OwnData       bool     `yaml:"own_data,omitempty" json:"own_data,omitempty"`       // sees what it handed over itself, no more
	Role          string   `yaml:"role,omitempty" json:"role,omitempty"`               // administrator (default), user
	ViewAddresses *bool    `yaml:"view_addresses,omitempty" json:"view_addresses,omitempty"`
	Zone          string   `yaml:"zone,omitempty" json:"zone,omitempty"`               // of times it reads and writes; empty: that of the process
	ReportMail    bool     `yaml:"report_mail,omitempty" json:"report_mail,omitempty"` // every morning, to the name, which is a mail address (R84)
}

// The roles of a User.
const (
	RoleAdministrator = "administrator"
	RoleUser          = "user"
)

// The permissions of a User.
const (
	PermissionSMTP = "smtp"
	PermissionHTTP = "http"
)

// Administers tells whether u may change what belongs to its tenant, not only read it.
func (u *User) Administers() bool { return u.Role != RoleUser }

// SeesAddresses tells whether u may read data that contains addresses.
func (u *User) SeesAddresses() bool { return u.ViewAddresses == nil || *u.ViewAddresses }

// Intake bounds what one composition may hand over.
type Intake struct {
	Sessions int      `yaml:"sessions,omitempty" json:"sessions,omitempty"` // 1-100, default 100 (R8)
	Interval Duration `yaml:"interval,omitempty" json:"interval,omitempty"` // 0 or 10ms-10s (R9)
	SizeKB   int      `yaml:"size_kb,omitempty" json:"size_kb,omitempty"`   // default 10240 (R10)
}

// Headers names the steering headers of a composition.
type Headers struct {
	Group    string `yaml:"group,omitempty" json:"group,omitempty"`       // default X-Relay-Group
	Cleaning string `yaml:"cleaning,omitempty" json:"cleaning,omitempty"` // default X-KAEDE-Cleaning, exact case
	Appoint  string `yaml:"appoint,omitempty" json:"appoint,omitempty"`   // default X-KAEDE-Appoint, exact case

	SubjectTime bool `yaml:"subject_time,omitempty" json:"subject_time,omitempty"` // a reservation at the beginning of Subject (R31)
}

// Retry is when to try again and when to give up (R46).
type Retry struct {
	Interval Duration `yaml:"interval,omitempty" json:"interval,omitempty"` // default 1m, 1s-24h
	Lifetime Duration `yaml:"lifetime,omitempty" json:"lifetime,omitempty"` // default 30m, 1s-120h
}

// EnvelopeFrom rewrites the envelope sender (R59).
type EnvelopeFrom struct {
	Rewrite bool   `yaml:"rewrite,omitempty" json:"rewrite,omitempty"`
	Domain  string `yaml:"domain,omitempty" json:"domain,omitempty"`
}

// Filter is a header name and a pattern that must match the whole value (R113, R114).
type Filter struct {
	Name    string `yaml:"name,omitempty" json:"name,omitempty"`
	Header  string `yaml:"header" json:"header"`
	Pattern string `yaml:"pattern" json:"pattern"`
}

// Priority gives matching mail a priority of 1-99 (R35).
type Priority struct {
	Filter   `yaml:",inline"`
	Priority int `yaml:"priority" json:"priority"`
}

// QuietHours holds matching mail inside a window (R36).
type QuietHours struct {
	Name   string   `yaml:"name" json:"name"`
	Apply  []Filter `yaml:"apply" json:"apply"`
	Except []Filter `yaml:"except,omitempty" json:"except,omitempty"`
	From   string   `yaml:"from" json:"from"` // HH:MM, inside
	To     string   `yaml:"to" json:"to"`     // HH:MM, outside
	Zone   string   `yaml:"zone,omitempty" json:"zone,omitempty"`
}

// Forward copies or redirects matching mail (R116).
type Forward struct {
	Filter `yaml:",inline"`
	To     string `yaml:"to" json:"to"`
	Mode   string `yaml:"mode" json:"mode"` // copy, rewrite
}

// Unsubscribe adds List-Unsubscribe to matching mail (R104). Filters of the same name in other compositions of the tenant
// are the same list.
type Unsubscribe struct {
	Filter    `yaml:",inline"`
	OneClick  bool   `yaml:"one_click,omitempty" json:"one_click,omitempty"` // with List-Unsubscribe-Post (RFC 8058)
	URL       string `yaml:"url,omitempty" json:"url,omitempty"`             // of the host links lead to; empty: https:// and the node's host name
	Immediate bool   `yaml:"immediate,omitempty" json:"immediate,omitempty"` // requests count at once, not from the next batch on (E-30)
}

// DeliveryStop suppresses addresses by error reason (R101).
type DeliveryStop struct {
	RunAt            string      `yaml:"run_at,omitempty" json:"run_at,omitempty"`
	ReleaseAfterDays int         `yaml:"release_after_days,omitempty" json:"release_after_days,omitempty"`
	ReleaseDisabled  bool        `yaml:"release_disabled,omitempty" json:"release_disabled,omitempty"` // who was stopped for a reason that is enabled no more
	Reasons          map[int]int `yaml:"reasons,omitempty" json:"reasons,omitempty"`
}

// DKIM names a signing key.
type DKIM struct {
	Domain   string `yaml:"domain" json:"domain"`
	Selector string `yaml:"selector" json:"selector"`
}

// SpeedCap bounds the rate of a composition, a tenant or everything (R57); Messages 0 = none.
type SpeedCap struct {
	Messages int      `yaml:"messages,omitempty" json:"messages,omitempty"`
	Per      Duration `yaml:"per,omitempty" json:"per,omitempty"`
}

// Speed is a delivery-speed filter (R40).
type Speed struct {
	Name        string   `yaml:"name" json:"name"`
	Patterns    []string `yaml:"patterns" json:"patterns"`
	HostName    bool     `yaml:"host_name,omitempty" json:"host_name,omitempty"`
	Connections int      `yaml:"connections,omitempty" json:"connections,omitempty"` // 1-100
	Interval    Duration `yaml:"interval,omitempty" json:"interval,omitempty"`       // 10ms-10s, per connection
	Fixed       bool     `yaml:"fixed,omitempty" json:"fixed,omitempty"`
	SourceIPs   int      `yaml:"source_ips,omitempty" json:"source_ips,omitempty"`
	Route       string   `yaml:"route,omitempty" json:"route,omitempty"`
}

// Pool is a set of source IPs that a kind of mail may use.
type Pool struct {
	Name    string   `yaml:"name" json:"name"`
	Sources []string `yaml:"sources,omitempty" json:"sources,omitempty"`
	Warmup  string   `yaml:"warmup,omitempty" json:"warmup,omitempty"`
}

// Warmup is a plan of the operator's for sources that a receiver does not know yet (R149, N13): how many messages one may
// send to one receiver, day by day.
type Warmup struct {
	Name   string `yaml:"name" json:"name"`
	Per    string `yaml:"per,omitempty" json:"per,omitempty"`       // what a step's figure covers: hour, day (default)
	Steps  []int  `yaml:"steps" json:"steps"`                       // messages: one figure for each day
	Earned bool   `yaml:"earned,omitempty" json:"earned,omitempty"` // a day counts only if four fifths of it were sent
}

// WarmupNames are the plans that are always there, as policy/shaping builds them, and none at all.
func WarmupNames() []string { return []string{"none", "sendgrid", "sparkpost"} }

// SendingHour permits sending to a domain inside a window only (R37).
type SendingHour struct {
	Domain string `yaml:"domain" json:"domain"`
	From   string `yaml:"from" json:"from"`
	To     string `yaml:"to" json:"to"`
}

// Allow is an entry of the console's allow-list (R124).
type Allow struct {
	Address    string `yaml:"address" json:"address"`
	Console    bool   `yaml:"console,omitempty" json:"console,omitempty"`
	ConsoleAPI bool   `yaml:"console_api,omitempty" json:"console_api,omitempty"`
	MailAPI    bool   `yaml:"mail_api,omitempty" json:"mail_api,omitempty"`
}

// Account is a managed login of console and command.
type Account struct {
	Name string `yaml:"name" json:"name"`
	Role string `yaml:"role" json:"role"`
}
