//go:build !race

package smtpd

const slack = 0
