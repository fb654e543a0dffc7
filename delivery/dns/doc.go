// Package dns answers the questions mail asks of the DNS: which hosts take mail for a domain, which addresses a host has,
// and, about senders, what stands in TXT records and what addresses are called. It asks the configured resolvers over UDP with TCP behind it, remembers answers for their TTL, and
// tells "there is none" from "nobody knows at the moment".
//
// It must never dial a mail host, judge an address (the guard of package delivery does, on the address actually
// dialled) or follow more of an answer than its caps allow. Read Resolver first.
package dns
