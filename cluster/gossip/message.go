package gossip

import (
	"crypto/rand"
	"errors"
	"sync"

	"github.com/hashicorp/memberlist"
)

const (
	// MaxMessage is the longest message, in octets.
	MaxMessage = 16 << 10
	// maxPacket is the longest message that also goes by packet, in octets: memberlist's 1,400 less its own headers,
	// label and seal.
	maxPacket = 1100
	// maxSends bounds reliable sends in flight: a member that hangs keeps one for seconds. Beyond it, packets remain.
	maxSends = 64
	// maxWaiting is how many messages wait for OnMessage. Beyond it they are dropped, and counted.
	maxWaiting = 256
	// rumourMult: a rumour is passed on rumourMult x log10(members+1) times, rounded up, as memberlist's own.
	rumourMult = 4

	// A message is: version, identity, content. Another version is dropped: it is for members of another release.
	messageVersion = 1
	idSize         = 16
	headSize       = 1 + idSize
)

// ErrTooLong is returned for a message above MaxMessage.
var ErrTooLong = errors.New("message is too long for gossip")

type id [idSize]byte

// pack puts a fresh identity before content.
func pack(content []byte) (id, []byte) {
	var who id
	rand.Read(who[:])
	out := make([]byte, 0, headSize+len(content))
	out = append(out, messageVersion)
	out = append(out, who[:]...)
	return who, append(out, content...)
}

// unpack takes a received message apart; not ok for what is none of ours. content lies within msg.
func unpack(msg []byte) (who id, content []byte, ok bool) {
	if len(msg) < headSize || len(msg) > headSize+MaxMessage || msg[0] != messageVersion {
		return id{}, nil, false
	}
	return id(msg[1:headSize]), msg[headSize:], true
}

// heard remembers the last messages, so that each is delivered and passed on once. A bounded ring: a rumour that comes
// again after thousands of others was out of date anyway.
type heard struct {
	mu   sync.Mutex
	set  map[id]struct{}
	ring []id
	next int
}

const maxHeard = 8192

func newHeard() *heard { return &heard{set: map[id]struct{}{}, ring: make([]id, maxHeard)} }

// first tells whether a message was not heard before, and remembers it.
func (h *heard) first(who id) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.set[who]; ok {
		return false
	}
	delete(h.set, h.ring[h.next])
	h.ring[h.next] = who
	h.set[who] = struct{}{}
	h.next = (h.next + 1) % len(h.ring)
	return true
}

// Broadcast sends a small message to everybody who is here: by packet at once, by a stream to each in the background, and
// as a rumour, which reaches those that only others can reach. It does not wait, and nobody says whether it arrived.
// Errors are ErrTooLong and ErrClosed.
func (g *Gossip) Broadcast(content []byte) error {
	if len(content) > MaxMessage {
		return ErrTooLong
	}
	if !g.begin() {
		return ErrClosed
	}
	defer g.wg.Done()
	who, msg := pack(content)
	g.heard.first(who) // our own does not come back to us
	g.spread(msg)
	for _, m := range g.Alive() {
		if m.Name == g.cfg.Name {
			continue
		}
		if len(msg) <= maxPacket {
			to := memberlist.Address{Addr: m.Addr.String(), Name: m.Name}
			if err := g.list.SendToAddress(to, msg); err != nil {
				g.cfg.Log.Debug("gossip: packet not sent", "member", m.Name, "error", err)
			}
		}
		select {
		case g.sends <- struct{}{}:
			g.wg.Go(func() { g.send(m, msg) })
		default:
		}
	}
	return nil
}

// send sends a message by stream.
func (g *Gossip) send(m Member, msg []byte) {
	defer func() { <-g.sends }()
	to := &memberlist.Node{Name: m.Name, Addr: m.Addr.Addr().AsSlice(), Port: m.Addr.Port()}
	if err := g.list.SendReliable(to, msg); err != nil && g.ctx.Err() == nil {
		g.cfg.Log.Debug("gossip: message not sent", "member", m.Name, "error", err)
	}
}

// receive takes what memberlist hands over. It must not block, and may not keep msg.
func (g *Gossip) receive(msg []byte) {
	who, content, ok := unpack(msg)
	if !ok {
		g.cfg.Log.Debug("gossip: message of another release", "octets", len(msg))
		return
	}
	if !g.heard.first(who) {
		return
	}
	own := append([]byte(nil), msg...)
	g.spread(own)
	select {
	case g.messages <- own[len(own)-len(content):]:
	default:
		g.mu.Lock()
		g.lost++
		g.mu.Unlock()
	}
}

// deliver runs OnMessage.
func (g *Gossip) deliver() {
	for {
		select {
		case <-g.ctx.Done():
			return
		case content := <-g.messages:
			if g.cfg.OnMessage != nil {
				g.cfg.OnMessage(content)
			}
		}
	}
}

// spread passes a message on as a rumour, where it fits into a packet.
func (g *Gossip) spread(msg []byte) {
	if len(msg) <= maxPacket {
		g.rumours.QueueBroadcast(rumour(msg))
	}
}

// rumour is a message in memberlist's queue.
type rumour []byte

func (rumour) Invalidates(memberlist.Broadcast) bool { return false }
func (r rumour) Message() []byte                     { return r }
func (rumour) Finished()                             {}

// UniqueBroadcast says that no rumour takes another's place.
func (rumour) UniqueBroadcast() {}
