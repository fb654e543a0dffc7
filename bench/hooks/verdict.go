package hooks

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// Verdict is what was posted, held against what was accepted.
type Verdict struct {
	Events   int      // that came, each once
	Posts    int      // that they came in
	Again    int      // posts that came again under the same webhook-id, as is promised after an answer that was not heard
	Changed  int      // of them, with other words: never right
	Lost     int      // events of accepted mail that never came
	Repeated int      // events that came in two posts of different names: never right
	Examples []string // of what was lost or repeated, ten at most
}

// OK tells whether every event came and none twice but in a post of the same name and words.
func (v *Verdict) OK() bool { return v.Lost == 0 && v.Repeated == 0 && v.Changed == 0 }

func (v *Verdict) example(what, of string) {
	if len(v.Examples) < 10 {
		v.Examples = append(v.Examples, what+" "+of)
	}
}

// Check reads a ledger of bench/load, all of whose mail has been delivered: of each recipient there must be an event of
// being queued and one of success.
func (r *Receiver) Check(ledger string) (Verdict, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	v := Verdict{Events: r.events, Posts: len(r.posts), Again: r.again, Changed: r.changed}
	seen := make(map[string]bool, r.events)
	for _, id := range r.order {
		var p struct {
			Events []struct{ Status, MessageID, To string } `json:"event"`
		}
		if err := json.Unmarshal(r.posts[id].body, &p); err != nil {
			return v, fmt.Errorf("hooks: post %s: %w", id, err)
		}
		for _, e := range p.Events {
			if e.Status == "deferred" {
				continue // each attempt has one
			}
			key := e.Status + " " + e.MessageID + " " + e.To
			if seen[key] {
				v.Repeated++
				v.example("repeated", key)
			}
			seen[key] = true
		}
	}
	f, err := os.Open(ledger)
	if err != nil {
		return v, fmt.Errorf("hooks: %w", err)
	}
	defer func() { _ = f.Close() }()
	sc := bufio.NewScanner(f)
	sc.Buffer(make([]byte, 64<<10), 1<<20)
	for sc.Scan() {
		fields := strings.Fields(sc.Text())
		if len(fields) != 7 {
			continue // cut by the death of its writer: the verdict on mail judges that
		}
		for to := range strings.SplitSeq(fields[6], ",") {
			for _, status := range []string{"queued", "succeeded"} {
				if key := status + " " + fields[3] + " " + to; !seen[key] {
					v.Lost++
					v.example("lost", key)
				}
			}
		}
	}
	return v, sc.Err()
}

// Forget forgets every post, before the next load.
func (r *Receiver) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.posts)
	r.order, r.events, r.again, r.changed = r.order[:0], 0, 0, 0
}
