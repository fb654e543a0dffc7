package settings

import (
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/goccy/go-yaml/ast"

	"github.com/ekiden-mta/ekiden/policy/bounce"
)

// Receivers is rules data about receivers (R148): either the name of a file next to the settings, or the rules
// themselves. It extends the built-in rules; a rule with a built-in rule's name replaces it.
type Receivers struct {
	File  string         `json:"file,omitempty"`
	Rules []ReceiverRule `json:"rules,omitempty"`
}

// ReceiverRule is a policy group: who belongs to it and what it bears. Limits are per source IP.
type ReceiverRule struct {
	Name           string   `yaml:"name" json:"name"`                                           // docomo, google … the receiver's name in logs and metrics
	Domains        []string `yaml:"domains,omitempty" json:"domains,omitempty"`                 // "docomo.ne.jp", "*.ezweb.ne.jp", "*" = any
	MX             []string `yaml:"mx,omitempty" json:"mx,omitempty"`                           // host suffixes: ".google.com", "mfsmax.docomo.ne.jp"
	Queue          string   `yaml:"queue,omitempty" json:"queue,omitempty"`                     // classic queue name (R63); default pc
	Connections    int      `yaml:"connections,omitempty" json:"connections,omitempty"`         // at once, per source; 0 = inherit default
	PerConnection  int      `yaml:"per_connection,omitempty" json:"per_connection,omitempty"`   // messages; 0 = inherit, -1 = no limit
	SessionTime    Duration `yaml:"session_time,omitempty" json:"session_time,omitempty"`       // how long a connection begins messages; 0 = inherit
	Interval       Duration `yaml:"interval,omitempty" json:"interval,omitempty"`               // between messages on one connection
	Rate           float64  `yaml:"rate,omitempty" json:"rate,omitempty"`                       // messages/s per source; 0 = inherit, -1 = no limit
	Start          float64  `yaml:"start,omitempty" json:"start,omitempty"`                     // messages/s to begin with, doubled every minute; 0 = at once as above
	Fixed          bool     `yaml:"fixed,omitempty" json:"fixed,omitempty"`                     // learn nothing from answers (R41)
	ConnectionRate float64  `yaml:"connection_rate,omitempty" json:"connection_rate,omitempty"` // new connections/s per source; 0 = inherit, -1 = no limit
	DailyCap       int      `yaml:"daily_cap,omitempty" json:"daily_cap,omitempty"`             // messages per day and source; 0 = none
	HourlyCap      int      `yaml:"hourly_cap,omitempty" json:"hourly_cap,omitempty"`           // messages per hour and source; 0 = none
	SizeKB         int      `yaml:"size_kb,omitempty" json:"size_kb,omitempty"`                 // largest message it takes; 0 = not known
	TLS            string   `yaml:"tls,omitempty" json:"tls,omitempty"`                         // opportunistic (default), required, none
	BlockPause     Duration `yaml:"block_pause,omitempty" json:"block_pause,omitempty"`         // after 421, reset, refused connect; default 60s
	TopOfHour      Duration `yaml:"top_of_hour,omitempty" json:"top_of_hour,omitempty"`         // extra random delay around minute 00
	Source         string   `yaml:"source,omitempty" json:"source,omitempty"`                   // provenance of the rule
	Date           string   `yaml:"date,omitempty" json:"date,omitempty"`                       // when that was true, YYYY-MM-DD

	Replies []bounce.Row `yaml:"replies,omitempty" json:"replies,omitempty"` // what its answers mean, before the built-in rules
}

// OnlyReplies tells whether the rule says nothing but what answers mean: the limits stay as they are without it.
func (r ReceiverRule) OnlyReplies() bool {
	bare := ReceiverRule{Name: r.Name, Source: r.Source, Date: r.Date, Replies: r.Replies}
	return len(r.Replies) > 0 && reflect.DeepEqual(r, bare)
}

// DefaultReceiver is the rule that fills what the others leave open; its replies are asked about everybody's answers.
const DefaultReceiver = "default"

// Replies are the rules about answers in r.
func (r Receivers) Replies() (own []bounce.Own) {
	for i := range r.Rules {
		if one := &r.Rules[i]; len(one.Replies) > 0 {
			o := bounce.Own{Receiver: one.Name, Rows: one.Replies}
			if one.Name == DefaultReceiver {
				o.Receiver = ""
			}
			own = append(own, o)
		}
	}
	return own
}

// decodeNode reads either form: a text names a file, a list holds the rules.
func (r *Receivers) decodeNode(d *strictDecoder, n ast.Node, path string) {
	if n.Type() == ast.StringType {
		r.File, _ = d.scalar(n, path, "the name of a file")
		return
	}
	if n.Type() != ast.SequenceType {
		d.fail(n, path, "must be a list of rules or the name of a file that holds one")
		return
	}
	d.list(n, reflect.ValueOf(&r.Rules).Elem(), path, 1)
}

// MarshalYAML writes the rules as a list, or the name of the file where they have not been read from it.
func (r Receivers) MarshalYAML() (any, error) {
	if r.Rules != nil || r.File == "" {
		return r.Rules, nil
	}
	return r.File, nil
}

// MarshalJSON writes what MarshalYAML writes.
func (r Receivers) MarshalJSON() ([]byte, error) {
	v, _ := r.MarshalYAML()
	return json.Marshal(v)
}

// UnmarshalJSON reads either form.
func (r *Receivers) UnmarshalJSON(b []byte) error {
	if json.Unmarshal(b, &r.File) == nil {
		return nil
	}
	r.File = ""
	if err := json.Unmarshal(b, &r.Rules); err != nil {
		return fmt.Errorf("receivers: neither a list of rules nor the name of a file: %w", err)
	}
	return nil
}

// DecodeRules reads a file that holds a list of rules, strictly. The error is an Errors.
func DecodeRules(src []byte) ([]ReceiverRule, error) {
	var r Receivers
	lines, err := Strict(src, &r)
	if err != nil {
		return nil, err
	}
	if r.File != "" {
		return nil, Errors{{Line: lines.Of(""), Text: "must be a list of rules"}}
	}
	c := checker{lines: lines}
	c.rules(r.Rules, "")
	return r.Rules, c.errs.orNil()
}
