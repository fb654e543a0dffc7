package seal

import (
	"bytes"
	"crypto/rand"
	"slices"
)

// Purposes of keys that follow from the root key and that members share.
const (
	// BoxAgreed is the purpose of the box that holds what the members of a cluster agree on.
	BoxAgreed = "ledger"
	// boxSuccession is the purpose of the key under which a root key is handed to a member that holds an earlier one.
	boxSuccession = "succession"
	// gossip is the purpose of the secret of the members' gossip.
	gossip = "gossip"
)

// carried are the purposes whose keys a new root key carries over. A box of another purpose opens nothing that was sealed
// before a rotation.
func carried() []string { return []string{BoxAgreed, boxSuccession, gossip} }

// derivation is what a purpose's key is derived by.
func derivation(purpose string) string {
	if purpose == gossip {
		return gossip // no box
	}
	return "box " + purpose
}

// maxVersion is the last version of a root key: a box has one byte for it.
const maxVersion = 255

// heritage is what a root key carries over from those before it, so that what they sealed opens. It lies in the recovery
// file, sealed under the present root.
//
// Its encoding is: format (1) | version (1) | index key (32) | number of wrapping keys (1) | each (32) | boxes until the
// end, each: length of the purpose (1) | purpose | version (1) | key (32).
type heritage struct {
	version  byte   // of the root key that carries it, 2 or more
	index    []byte // HMAC key of names in store keys: the first root's, for good
	wrapping [][]byte
	boxes    []oldBox // by purpose, the oldest first
}

// oldBox is the key of a box, or of another carried purpose, under an earlier root.
type oldBox struct {
	purpose string
	version byte
	key     []byte
}

const heritageFormat = 1

// clone returns a copy that is wiped by itself.
func (h *heritage) clone() *heritage {
	c := &heritage{version: h.version, index: bytes.Clone(h.index)}
	for _, k := range h.wrapping {
		c.wrapping = append(c.wrapping, bytes.Clone(k))
	}
	for _, b := range h.boxes {
		c.boxes = append(c.boxes, oldBox{b.purpose, b.version, bytes.Clone(b.key)})
	}
	return c
}

func (h *heritage) encode() []byte {
	out := append([]byte{heritageFormat, h.version}, h.index...)
	out = append(out, byte(len(h.wrapping)))
	for _, k := range h.wrapping {
		out = append(out, k...)
	}
	for _, b := range h.boxes {
		out = append(append(out, byte(len(b.purpose))), b.purpose...)
		out = append(append(out, b.version), b.key...)
	}
	return out
}

// decodeHeritage reads what encode wrote and copies it. nil stands for anything else.
func decodeHeritage(data []byte) *heritage {
	const head = 2 + KeySize + 1
	if len(data) < head || data[0] != heritageFormat || data[1] < 2 {
		return nil
	}
	h := &heritage{version: data[1], index: bytes.Clone(data[2:][:KeySize])}
	n, rest := int(data[head-1]), data[head:]
	if len(rest) < n*KeySize {
		return nil
	}
	for ; n > 0; n-- {
		h.wrapping = append(h.wrapping, bytes.Clone(rest[:KeySize]))
		rest = rest[KeySize:]
	}
	for len(rest) > 0 {
		name := int(rest[0])
		if len(rest) < 1+name+1+KeySize {
			return nil
		}
		b := oldBox{purpose: string(rest[1:][:name]), version: rest[1+name], key: bytes.Clone(rest[2+name:][:KeySize])}
		if b.version == 0 || b.version >= h.version {
			return nil
		}
		h.boxes = append(h.boxes, b)
		rest = rest[2+name+KeySize:]
	}
	return h
}

// wipe clears all keys.
func (h *heritage) wipe() {
	if h == nil {
		return
	}
	clear(h.index)
	wipe(h.wrapping)
	wipeBoxes(h.boxes)
}

func wipeBoxes(boxes []oldBox) {
	for _, b := range boxes {
		clear(b.key)
	}
}

func heritageIdentity(store []byte) []byte { return append([]byte("ekiden heritage "), store...) }

// sealHeritage returns h sealed under root: random nonce (12) | ciphertext | tag (16).
func (r *Root) sealHeritage(h *heritage, store []byte) []byte {
	key := r.Derive("heritage")
	defer clear(key[:])
	plain := h.encode()
	defer clear(plain)
	nonce := make([]byte, nonceSize)
	rand.Read(nonce)
	return newGCM(key[:]).Seal(nonce, nonce, plain, heritageIdentity(store))
}

// openHeritage is the reverse. ErrDamaged where it is not what this root sealed.
func (r *Root) openHeritage(sealed, store []byte) (*heritage, error) {
	key := r.Derive("heritage")
	defer clear(key[:])
	if len(sealed) < nonceSize+tagSize {
		return nil, ErrDamaged
	}
	plain, err := newGCM(key[:]).Open(nil, sealed[:nonceSize], sealed[nonceSize:], heritageIdentity(store))
	defer clear(plain)
	if err != nil {
		return nil, ErrDamaged
	}
	h := decodeHeritage(plain)
	if h == nil {
		return nil, ErrDamaged
	}
	return h, nil
}

// Version counts the root keys of a store from 1 on.
func (r *Root) Version() byte {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.heritage == nil {
		return 1
	}
	return r.heritage.version
}

// indexKey returns the key of names in store keys, the caller's to wipe. It never changes with the root.
func (r *Root) indexKey() (key [KeySize]byte) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.heritage == nil {
		return r.derive("index")
	}
	copy(key[:], r.heritage.index)
	return key
}

// wrappingKeys returns the keys that open wrapped data keys; the first is the one that wraps. They are the caller's to wipe.
func (r *Root) wrappingKeys() [][]byte {
	r.mu.RLock()
	defer r.mu.RUnlock()
	present := r.derive("queue")
	keys := [][]byte{present[:]}
	if r.heritage != nil {
		for _, k := range r.heritage.wrapping {
			keys = append(keys, bytes.Clone(k))
		}
	}
	if r.staged {
		keys[0], keys[1] = keys[1], keys[0]
	}
	return keys
}

// boxKeys returns the present key of a carried purpose and the older ones, the caller's to wipe.
func (r *Root) boxKeys(purpose string) (present oldBox, older []oldBox) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	key := r.derive(derivation(purpose))
	present = oldBox{purpose, 1, key[:]}
	if r.heritage == nil {
		return present, nil
	}
	present.version = r.heritage.version
	for _, b := range r.heritage.boxes {
		if b.purpose == purpose {
			older = append(older, oldBox{b.purpose, b.version, bytes.Clone(b.key)})
		}
	}
	return present, older
}

// boxKey returns the key of a carried purpose under the root of a version, the caller's to wipe; nil where it is not known.
func (r *Root) boxKey(purpose string, version byte) (key []byte) {
	present, older := r.boxKeys(purpose)
	for _, b := range append(older, present) {
		if b.version == version {
			key = b.key
		} else {
			clear(b.key)
		}
	}
	return key
}

// GossipKeys returns the secret under which this member gossips, and the other one that it must understand while a
// rotation is under way; zero where there is none.
func (r *Root) GossipKeys() (use, other [KeySize]byte) {
	in := r.InUse()
	get := func(to *[KeySize]byte, version byte) {
		key := r.boxKey(gossip, version)
		copy(to[:], key)
		clear(key)
	}
	get(&use, in)
	if in < r.Version() {
		get(&other, r.Version())
	} else if in > 1 {
		get(&other, in-1)
	}
	return use, other
}

// carry adds to a root that another member gave what this node alone still has of earlier roots: wrapping keys that the
// others have dropped.
func (r *Root) carry(own *heritage) {
	defer own.wipe()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.heritage == nil {
		return
	}
	for _, k := range own.wrapping {
		if !slices.ContainsFunc(r.heritage.wrapping, func(have []byte) bool { return bytes.Equal(have, k) }) {
			r.heritage.wrapping = append(r.heritage.wrapping, bytes.Clone(k))
		}
	}
}

// bequeath returns what the next root key must carry over from this one. A staged root has sealed nothing: who follows it
// takes its place.
func (r *Root) bequeath() *heritage {
	if r.Staged() {
		r.mu.RLock()
		defer r.mu.RUnlock()
		return r.heritage.clone()
	}
	index := r.indexKey()
	h := &heritage{version: r.Version() + 1, index: index[:], wrapping: r.wrappingKeys()}
	for _, purpose := range carried() {
		present, older := r.boxKeys(purpose)
		if purpose != BoxAgreed { // of the one root before: nobody is further behind, and a key file must not grow large
			wipeBoxes(older)
			older = nil
		}
		h.boxes = append(h.boxes, append(older, present)...)
	}
	return h
}

// become makes r the root key that next is, for everybody who holds r, and leaves next closed.
func (r *Root) become(next *Root) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	next.mu.Lock()
	defer next.mu.Unlock()
	r.heritage.wipe()
	old := r.page
	r.page, r.heritage, r.staged = next.page, next.heritage, next.staged
	next.page, next.heritage = page{}, nil
	return old.close()
}

// keepsOlder tells whether wrapping keys of earlier roots are known.
func (r *Root) keepsOlder() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.heritage != nil && len(r.heritage.wrapping) > 0
}

// withoutWrapping returns a copy of the heritage without older wrapping keys, nil where there is nothing to leave out.
func (r *Root) withoutWrapping() *heritage {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.heritage == nil || len(r.heritage.wrapping) == 0 {
		return nil
	}
	h := r.heritage.clone()
	wipe(h.wrapping)
	h.wrapping = nil
	return h
}

// inherit replaces the heritage and wipes the former one. A root that still knows what wrapped data keys before it is staged.
func (r *Root) inherit(h *heritage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heritage.wipe()
	r.heritage = h
	r.staged = h != nil && len(h.wrapping) > 0
}

// opens tells which of the wrapping keys opens w, 0 for the one that wraps, and the data key, the caller's to wipe.
func (r *Root) opens(w WrappedKey) (key []byte, which int, err error) {
	keys := r.wrappingKeys()
	defer wipe(keys)
	which = slices.IndexFunc(keys, func(kek []byte) bool {
		key, err = unwrapKey(kek, w.Blob, dataKeyIdentity(w.ID))
		return err == nil
	})
	return key, which, err
}
