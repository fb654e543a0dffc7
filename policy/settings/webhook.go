package settings

import (
	"fmt"
	"net/url"
	"strings"
	"time"
)

// Webhook posts events outward.
type Webhook struct {
	URL    string   `yaml:"url" json:"url"`
	Events []string `yaml:"events,omitempty" json:"events,omitempty"`
	Format string   `yaml:"format,omitempty" json:"format,omitempty"`
	Secret string   `yaml:"secret,omitempty" json:"secret,omitempty"` // signs the posts: whsec_ and base64 of the key, or any text

	SecondSecret string `yaml:"second_secret,omitempty" json:"second_secret,omitempty"` // signs them as well, while receivers change over
	Version      int    `yaml:"version,omitempty" json:"version,omitempty"`             // 2 (default), or 1: a form of the published fields (B7.1)

	APIKey   string   `yaml:"api_key,omitempty" json:"api_key,omitempty"`   // told in each post (B7.1)
	Bearer   string   `yaml:"bearer,omitempty" json:"bearer,omitempty"`     // Authorization; BASIC stands in the address
	Statuses []string `yaml:"statuses,omitempty" json:"statuses,omitempty"` // of deliveries: queued, succeeded, failed, deferred; empty: all
	Zone     string   `yaml:"zone,omitempty" json:"zone,omitempty"`         // of times; empty: that of the process
}

// tenantEvents are what a tenant's webhooks may post, alarmEvents those of alarms.
func tenantEvents() []string { return []string{"deliveries", "bounces", "blocks"} }
func alarmEvents() []string  { return []string{"alarms"} }

// fill has w post events where it does not say which.
func (w *Webhook) fill(events []string) {
	set(&w.Version, 2)
	if w.Version == 1 {
		set(&w.Format, "form")
	}
	set(&w.Format, "json")
	if w.Events == nil {
		w.Events = events
	}
}

// webhooks checks where events of these types are posted.
func (c *checker) webhooks(list []Webhook, path string, events []string) {
	posted := map[string]int{} // by address and event
	for i, w := range list {
		p := at(path, i)
		if u, err := url.Parse(w.URL); err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
			c.fail(p+".url", fmt.Sprintf("%q is no http or https address", w.URL))
		}
		c.oneOf(w.Format, p+".format", "json", "form")
		c.between(w.Version, p+".version", 1, 2)
		if w.Version == 1 && w.Format == "json" {
			c.fail(p+".format", "version 1 posts forms; write form, or version: 2")
		}
		if w.SecondSecret != "" && w.Secret == "" {
			c.fail(p+".secret", "a second secret needs a first")
		}
		if len(w.Events) == 0 {
			c.fail(p+".events", "at least one of "+strings.Join(events, ", ")+" is needed")
		}
		for j, e := range w.Events {
			c.oneOf(e, at(p+".events", j), events...)
			if first, twice := posted[w.URL+" "+e]; twice {
				c.fail(at(p+".events", j), fmt.Sprintf("webhooks[%d] posts %s to that url already", first, e))
			}
			posted[w.URL+" "+e] = i
		}
		for j, e := range w.Statuses {
			c.oneOf(e, at(p+".statuses", j), "queued", "succeeded", "failed", "deferred")
		}
		if _, err := time.LoadLocation(w.Zone); err != nil {
			c.fail(p+".zone", fmt.Sprintf("%q is no time zone", w.Zone))
		}
	}
}
