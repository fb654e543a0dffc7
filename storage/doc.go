// Package storage is the room of what must survive: the queue, the event log, the counters derived from it, and the
// keys that keep all of them unreadable at rest. It holds no code of its own; queue opens the one Badger of a node and
// is the only writer, events, stats and seal serve it, record is the byte grammar they share.
//
// Nothing outside this room may open Badger, and it must never know SMTP, HTTP or an actor. Read DESIGN.md first.
package storage
