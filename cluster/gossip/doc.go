// Package gossip tells a member who else is here, and passes small messages to everybody: memberlist, over the members'
// port. Packets are UDP on the port's number, sealed under the cluster's gossip key and labelled with its id; streams
// are TLS through package wire, where the certificate must name the member that was meant.
//
// It is advice only. Whoever holds the gossip key can make any member look dead or alive (memberlist's own SECURITY.md
// says so), so nothing here may ever move a queue, grant a lease or change a vote: that is for agreement. It must never
// block memberlist, which stops hearing while it waits; and never trust a message to come from whom it names.
//
// Messages spread like rumours: each member that hears one for the first time passes it on, so that it also reaches a
// member that only some others can reach. They may be lost and may come in any order, but to one process once.
//
// Read Gossip first, then transport, then message.
package gossip
