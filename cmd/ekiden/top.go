package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/term"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/internal/clock"
)

type topCmd struct {
	serverFlags
}

func (topCmd) Help() string { return "Example: ekiden top        (q quits)" }

// topGap is the distance of two pictures.
const topGap = time.Second

// Run shows the live picture on a terminal, and one picture elsewhere.
func (c topCmd) Run(a *app) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	out, onTerminal := a.out.(*os.File)
	if a.json || !onTerminal || !term.IsTerminal(int(out.Fd())) {
		p, err := takePicture(a, cl)
		if err != nil {
			return err
		}
		if a.json {
			return printJSON(a.out, p.plain())
		}
		return p.draw(a.out, picture{})
	}
	return live(a, cl, out)
}

// live repaints an alternate screen until q, Ctrl-C or a lost server.
func live(a *app, cl adminpb.AdminServiceClient, out *os.File) error {
	quit := make(chan struct{})
	if in, ok := a.in.(*os.File); ok && term.IsTerminal(int(in.Fd())) {
		old, err := term.MakeRaw(int(in.Fd()))
		if err == nil {
			defer func() { _ = term.Restore(int(in.Fd()), old) }()
			// The reader outlives the command when nothing is typed: the process ends with it.
			go watchKeys(in, quit)
		}
	}
	const enter, leave = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
	fmt.Fprint(out, enter)
	defer fmt.Fprint(out, leave)
	tick := time.NewTicker(topGap)
	defer tick.Stop()
	var last picture
	for {
		p, err := takePicture(a, cl)
		if err != nil {
			if a.ctx.Err() != nil {
				return nil
			}
			return err
		}
		if err := paint(out, p, last); err != nil {
			return err
		}
		last = p
		select {
		case <-quit:
			return nil
		case <-a.ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// watchKeys closes quit at q, Q, Ctrl-C or the end of input.
func watchKeys(in io.Reader, quit chan<- struct{}) {
	defer close(quit)
	key := make([]byte, 1)
	for {
		if _, err := in.Read(key); err != nil || key[0] == 'q' || key[0] == 'Q' || key[0] == 3 {
			return
		}
	}
}

// paint draws p over the last picture in one write, cut to the height of the terminal.
func paint(out *os.File, p, last picture) error {
	var b bytes.Buffer
	if err := p.draw(&b, last); err != nil {
		return err
	}
	all := bytes.Split(bytes.TrimRight(b.Bytes(), "\n"), []byte("\n"))
	if _, height, err := term.GetSize(int(out.Fd())); err == nil && len(all) > height-1 {
		all = all[:max(1, height-1)]
	}
	var screen bytes.Buffer
	screen.WriteString("\x1b[H")
	for _, line := range all {
		screen.Write(line)
		screen.WriteString("\x1b[K\r\n")
	}
	screen.WriteString("\x1b[J")
	_, err := out.Write(screen.Bytes())
	return err
}

// picture is everything top shows of one moment.
type picture struct {
	at       time.Time
	status   *adminpb.GetStatusResponse
	counters *adminpb.Counters
	queues   *adminpb.GetQueuesResponse
}

func takePicture(a *app, cl adminpb.AdminServiceClient) (picture, error) {
	p := picture{at: clock.Wall()}
	var err error
	if p.status, err = cl.GetStatus(a.ctx, &adminpb.GetStatusRequest{}); err != nil {
		return p, err
	}
	c, err := cl.GetCounters(a.ctx, &adminpb.GetCountersRequest{})
	if connect.CodeOf(err) == connect.CodeFailedPrecondition {
		return p, nil // sealed: there is a state to show, and nothing else
	}
	if err != nil {
		return p, err
	}
	if len(c.Buckets) > 0 {
		p.counters = c.Buckets[0].Counters
	}
	p.queues, err = cl.GetQueues(a.ctx, &adminpb.GetQueuesRequest{})
	return p, err
}

func (p picture) plain() map[string]any {
	queues := map[string]uint32{}
	for _, q := range p.queues.GetQueues() {
		queues[q.Name] = q.Waiting
	}
	type row struct {
		Receiver    string `json:"receiver"`
		Source      string `json:"source"`
		State       string `json:"state"`
		Waiting     uint32 `json:"waiting"`
		Connections int32  `json:"connections"`
		Limit       int32  `json:"limit"`
		Delivered   int64  `json:"delivered"`
		Deferred    int64  `json:"deferred"`
		Failed      int64  `json:"failed"`
		Until       string `json:"until,omitempty"`
		Detail      string `json:"detail,omitempty"`
	}
	rows := []row{}
	for _, r := range p.queues.GetReceivers() {
		rows = append(rows, row{r.Receiver, r.Source, r.State, r.Waiting, r.Connections, r.Limit, r.Delivered, r.Deferred,
			r.Failed, instant(r.Until), r.Detail})
	}
	return map[string]any{"name": p.status.GetName(), "state": p.status.GetState(), "counters": countersByName(p.counters),
		"queues": queues, "receivers": rows, "missing": absentNames(p.queues.GetMissing())}
}

// queueNotes says what is special about a row, in words.
func queueNotes(q *adminpb.Queue) string {
	var notes []string
	add := func(n uint32, what string) {
		if n > 0 {
			notes = append(notes, number(n)+" "+what)
		}
	}
	add(q.Slowed, "slowed for unclean lists")
	add(q.Urgent, "urgent")
	add(q.Warming, "sources warming up")
	return strings.Join(notes, ", ")
}

// draw prints the picture; rates are shown where there is an earlier one.
func (p picture) draw(w io.Writer, last picture) error {
	st := p.status
	fmt.Fprintf(w, "ekiden %s  %s  up %s  version %s\n", printable(st.GetName()), st.GetState(), ago(st.GetStarted(), p.status.GetNow().AsTime()),
		printable(st.GetVersion()))
	for _, r := range st.GetReasons() {
		fmt.Fprintf(w, "not ready: %s: %s\n", printable(r.Code), printable(r.Detail))
	}
	for _, m := range p.queues.GetMissing() {
		fmt.Fprintf(w, "no answer from %s\n", printable(absentWords(m)))
	}
	if p.counters == nil {
		return nil
	}
	rate := func(i int) string {
		if last.counters == nil || !p.at.After(last.at) {
			return ""
		}
		n := float64(counterAt(p.counters, i)-counterAt(last.counters, i)) / p.at.Sub(last.at).Seconds()
		return strconv.FormatFloat(n, 'f', 0, 64) + "/s"
	}
	rows := [][]string{}
	const half = service.CounterCount / 2
	for i := range half {
		j := i + half
		rows = append(rows, []string{service.CounterName(i), number(counterAt(p.counters, i)), rate(i), "",
			service.CounterName(j), number(counterAt(p.counters, j)), rate(j)})
	}
	if err := table(w, rows); err != nil {
		return err
	}
	fmt.Fprintln(w)
	receivers := slices.SortedStableFunc(slices.Values(p.queues.GetReceivers()), func(a, b *adminpb.Receiver) int {
		return int(int64(b.Waiting)-int64(a.Waiting)) + int(b.Connections-a.Connections)
	})
	rows = [][]string{{"RECEIVER", "SOURCE", "STATE", "WAITING", "CONNS", "LIMIT", "DELIVERED", "DEFERRED", "FAILED", "UNTIL", "WHY"}}
	told := map[[2]string]bool{} // a node counts outcomes by receiver: they stand in the first of its rows
	for _, r := range receivers {
		delivered, deferred, failed := number(r.Delivered), number(r.Deferred), number(r.Failed)
		if at := [2]string{r.Node, r.Receiver}; told[at] {
			delivered, deferred, failed = "", "", ""
		} else {
			told[at] = true
		}
		rows = append(rows, []string{r.Receiver, r.Source, r.State, number(r.Waiting), number(r.Connections), number(r.Limit),
			delivered, deferred, failed, moment(r.Until), r.Detail})
	}
	if err := table(w, rows); err != nil {
		return err
	}
	fmt.Fprintln(w)
	rows = nil
	for _, q := range p.queues.GetQueues() {
		rows = append(rows, []string{q.Name, number(q.Waiting), queueNotes(q)})
	}
	return table(w, rows)
}
