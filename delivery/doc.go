// Package delivery is mail on its way out: a Courier takes a route, connects to its hosts in order, secures the
// connection, has a session of smtpc carry the messages, and reports what became of them. A Resolver says where mail
// for a domain goes: by the node file's routes first, by the DNS otherwise.
//
// It must never dial an address the Guard refuses, decide when or how often to try, or know where messages come from;
// it is given Trips and Work. Read Courier.Run first, then package smtpc.
package delivery
