package smtpc

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

// fakeWork hands out jobs and writes down what becomes of them.
type fakeWork struct {
	durable string // "" = at once, "later" = by fire, "never", "fail"
	unclear int    // the job that is not cleared
	unready int    // the job whose mark is not on disk
	due     int64  // the job that was cleared and whose dot is not out yet; 0 = none

	mu      sync.Mutex
	changed sync.Cond
	jobs    []*mail.Job
	lines   []string
	waiting []func(error)
	fired   int
	settled int
}

func newFakeWork() *fakeWork {
	w := &fakeWork{}
	w.changed.L = &w.mu
	return w
}

func (w *fakeWork) Next(time.Duration) *mail.Job {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.jobs) == 0 {
		return nil
	}
	j := w.jobs[0]
	w.jobs = w.jobs[1:]
	return j
}

func (w *fakeWork) Ready(j *mail.Job) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return int(j.Delivery.Seq) != w.unready
}

func (w *fakeWork) Clear(j *mail.Job) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	// Rule D6, whoever asks: everything settled so far is durable.
	if w.settled != w.fired {
		w.lines = append(w.lines, fmt.Sprintf("VIOLATION: clear %d with %d outcomes not durable", j.Delivery.Seq, w.settled-w.fired))
	}
	if int(j.Delivery.Seq) == w.unclear {
		return false
	}
	w.due = int64(j.Delivery.Seq)
	return true
}

func (w *fakeWork) Sent(j *mail.Job) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.due != int64(j.Delivery.Seq) {
		w.lines = append(w.lines, fmt.Sprintf("VIOLATION: the dot of %d is told to be out, due was %d", j.Delivery.Seq, w.due))
	}
	w.due = 0
}

func (w *fakeWork) Settle(j *mail.Job, o mail.Outcome, durable func(error)) {
	w.mu.Lock()
	if w.due == int64(j.Delivery.Seq) {
		if w.due = 0; o.Result == mail.Delivered {
			w.lines = append(w.lines, fmt.Sprintf("VIOLATION: %d was delivered without a word that its dot is out", j.Delivery.Seq))
		}
	}
	w.lines = append(w.lines, fmt.Sprintf("%d: %s", j.Delivery.Seq, words(o)))
	w.settled++
	w.waiting = append(w.waiting, durable)
	w.changed.Broadcast()
	mode := w.durable
	w.mu.Unlock()
	switch mode {
	case "":
		w.fire(1, nil)
	case "fail":
		w.fire(1, errors.New("disk is gone"))
	}
}

// fire makes the next n outcomes durable, waiting for them to be settled.
func (w *fakeWork) fire(n int, err error) {
	for range n {
		w.mu.Lock()
		for len(w.waiting) == 0 {
			w.changed.Wait()
		}
		f := w.waiting[0]
		w.waiting = w.waiting[1:]
		w.fired++
		w.mu.Unlock()
		f(err)
	}
}

func (w *fakeWork) Return(j *mail.Job) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines = append(w.lines, fmt.Sprintf("%d: returned", j.Delivery.Seq))
}

func (w *fakeWork) log() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var b strings.Builder
	for _, l := range w.lines {
		b.WriteString(l + "\n")
	}
	for _, j := range w.jobs {
		fmt.Fprintf(&b, "%d: not taken\n", j.Delivery.Seq)
	}
	return b.String()
}
