// Package mail holds the words every room of ekiden shares: Domain, Address, MessageID, Delivery, Outcome, Event.
//
// It is values only. It must never do I/O, start a goroutine, read the clock or know another room; whatever decides
// lives in policy, whatever acts lives in a room of its own. Read Address (what a recipient is) and Outcome (what a
// receiver's answer means) first.
package mail
