package settings

import (
	"fmt"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/policy/bounce"
)

// Queues are the names under which receivers are counted: the six classic ones (R63) and the two extra groups (D1).
var queues = [...]string{"docomo", "ezweb", "softbank", "disney", "vodafone", "pc", "ymobile", "rakuten"}

// rules checks rules data; path is that of the list, "" at the top of a file.
func (c *checker) rules(rules []ReceiverRule, path string) {
	names := unique{c: c, seen: map[string]bool{}}
	for i := range rules {
		r := &rules[i]
		p := at(path, i)
		names.add(r.Name, p+".name")
		for j, d := range r.Domains {
			c.domainPattern(d, at(p+".domains", j))
		}
		for j, h := range r.MX {
			c.domain(strings.TrimPrefix(h, "."), at(p+".mx", j))
		}
		if r.Queue != "" {
			c.oneOf(r.Queue, p+".queue", queues[:]...)
		}
		c.between(r.Connections, p+".connections", 0, 100)
		c.between(r.SizeKB, p+".size_kb", 0, 1<<20)
		c.between(r.PerConnection, p+".per_connection", -1, 1_000_000)
		c.duration(r.Interval, p+".interval", 0, 10*time.Second)
		c.rate(r.Rate, p+".rate")
		if r.Start < 0 || r.Start > 1e6 {
			c.fail(p+".start", fmt.Sprintf("%v is out of range; allowed: 0 (as rate), up to 1000000 a second", r.Start))
		}
		c.rate(r.ConnectionRate, p+".connection_rate")
		if r.DailyCap < 0 {
			c.fail(p+".daily_cap", "must be 0 (none) or more")
		}
		if r.HourlyCap < 0 {
			c.fail(p+".hourly_cap", "must be 0 (none) or more")
		}
		if r.TLS != "" {
			c.oneOf(r.TLS, p+".tls", "opportunistic", "required", "none")
		}
		c.duration(r.BlockPause, p+".block_pause", 0, 24*time.Hour)
		c.duration(r.SessionTime, p+".session_time", 0, 24*time.Hour)
		c.duration(r.TopOfHour, p+".top_of_hour", 0, 10*time.Minute)
		if r.Date != "" {
			if _, err := time.Parse(time.DateOnly, r.Date); err != nil {
				c.fail(p+".date", fmt.Sprintf("%q is no date; write it YYYY-MM-DD", r.Date))
			}
		}
		c.replies(r.Replies, p+".replies")
	}
}

// repliesMost bounds the rules about answers of one receiver: each answer is held against all of them.
const repliesMost = 200

// replies checks what a receiver's answers are said to mean.
func (c *checker) replies(rows []bounce.Row, path string) {
	if len(rows) > repliesMost {
		c.fail(path, fmt.Sprintf("has %d rules; allowed: at most %d", len(rows), repliesMost))
	}
	names := unique{c: c, seen: map[string]bool{}}
	for i, row := range rows {
		if row.Name != "" {
			names.add(row.Name, at(path, i)+".name")
		}
		for _, wrong := range bounce.CheckRow(row) {
			c.fail(at(path, i)+"."+wrong.Key, wrong.Text)
		}
	}
}

func (c *checker) rate(v float64, path string) {
	if v != -1 && (v < 0 || v > 1e6) {
		c.fail(path, fmt.Sprintf("%v is out of range; allowed: -1 (no limit), 0 (default), up to 1000000 a second", v))
	}
}
