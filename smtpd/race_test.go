//go:build race

package smtpd

// slack is what the race detector adds to allocations: it makes pools forget.
const slack = 10
