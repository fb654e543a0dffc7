package sim

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// Goals of the report, per receiver and run.
const (
	LeastUsedMedian = 0.95 // of the quota, the median run
	LeastUsed       = 0.85 // …, the worst run
	MostRefused     = 0.01 // temporary refusals per attempt
	MostBlocks      = 1.0  // blocks a day
)

// Report puts runs together, receiver by receiver in the order they first come, and tells which goals were missed, and by what.
func Report(out io.Writer, runs []PaceResult) (missed []string, err error) {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "receiver\truns\tquota used\tworst\tworst source\trefused\tworst\tblocks/source/day\tworst\tscoped\tslowed\texceeded\tin quiet hours\tgreylisted\tstrayed\t")
	var names []string
	for i := range runs {
		if name := runs[i].Receiver; !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, name := range names {
		var used, least, refused, blocks []float64
		var sum PaceResult
		for i := range runs {
			if r := &runs[i]; r.Receiver == name {
				used, least, refused = append(used, r.Used), append(least, r.Least), append(refused, r.RefusedShare())
				blocks = append(blocks, r.BlocksADay())
				sum.Scoped, sum.Slowed = sum.Scoped+r.Scoped, sum.Slowed+r.Slowed
				sum.Exceeded, sum.QuietStarts = sum.Exceeded+r.Exceeded, sum.QuietStarts+r.QuietStarts
				sum.Greylisted, sum.Strayed = sum.Greylisted+r.Greylisted, sum.Strayed+r.Strayed
			}
		}
		slices.Sort(used)
		slices.Sort(refused)
		slices.Sort(blocks)
		mid, last := len(used)/2, len(used)-1
		fmt.Fprintf(w, "%s\t%d\t%.1f %%\t%.1f %%\t%.1f %%\t%.2f %%\t%.2f %%\t%.2f\t%.2f\t%d\t%d\t%d\t%d\t%d\t%d\t\n", name, len(used), 100*used[mid],
			100*used[0], 100*slices.Min(least), 100*refused[mid], 100*refused[last], blocks[mid], blocks[last], sum.Scoped, sum.Slowed,
			sum.Exceeded, sum.QuietStarts, sum.Greylisted, sum.Strayed)
		miss := func(yes bool, format string, args ...any) {
			if yes {
				missed = append(missed, name+": "+fmt.Sprintf(format, args...))
			}
		}
		miss(used[mid] < LeastUsedMedian, "the median run used %.1f %% of the quota, the goal is %.0f %%", 100*used[mid], 100*LeastUsedMedian)
		miss(used[0] < LeastUsed, "the worst run used %.1f %% of the quota, the goal is %.0f %%", 100*used[0], 100*LeastUsed)
		miss(refused[last] >= MostRefused, "%.2f %% refused, the goal is less than %.0f %%", 100*refused[last], 100*MostRefused)
		miss(blocks[last] > MostBlocks, "%.2f blocks a day, the goal is at most %.0f", blocks[last], MostBlocks)
		miss(sum.Slowed+sum.Exceeded+sum.QuietStarts > 0, "others slowed, a limit exceeded or quiet hours broken: the goal is never")
	}
	return missed, w.Flush()
}
