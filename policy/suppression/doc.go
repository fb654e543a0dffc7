// Package suppression decides who gets no mail: in which order the lists are asked, which failures count against an
// address, when it has had enough of them, and what the black box learns.
//
// It must never hold a list or look one up: the lists are the members' agreed book, and package node asks this package
// what they mean. Read Order and Errors.
package suppression
