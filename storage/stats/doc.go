// Package stats keeps the counters of requirements R60-R62: counts of outcomes, all-time, for the last six hours and for
// the last hour by five minutes; overall, by tenant, delivery group and destination domain; and the statistics of days
// (R81-R83, R97).
//
// The counters are derived from events and from nothing else, so they can always be rebuilt. The package is memory and
// arithmetic: the store feeds it after each commit, writes its snapshot into commits, and replays what came after the
// last one at start. It must never hold an address, and its memory is bounded by MaxNames. Read Table, then days.go.
package stats
