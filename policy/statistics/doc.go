// Package statistics decides what the days' statistics say: under whom and on which day the end of a delivery counts,
// which ends are errors, how rates are worked out and printed.
//
// It must never count itself, or look anything up: storage/stats holds the numbers. Read Count, then views.go.
package statistics
