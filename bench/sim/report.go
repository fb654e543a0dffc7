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

// Report puts runs together, receiver by receiver in the order they first come, and tells whether all goals are met.
func Report(out io.Writer, runs []PaceResult) (met bool, err error) {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "receiver\truns\tquota used\tworst\trefused\tworst\tblocks/day\tworst\t")
	met = true
	var names []string
	for _, r := range runs {
		if !slices.Contains(names, r.Receiver) {
			names = append(names, r.Receiver)
		}
	}
	for _, name := range names {
		var used, refused, blocks []float64
		for _, r := range runs {
			if r.Receiver == name {
				used, refused = append(used, r.Used), append(refused, r.RefusedShare())
				blocks = append(blocks, float64(r.Blocks)/max(r.Days, 1))
			}
		}
		slices.Sort(used)
		slices.Sort(refused)
		slices.Sort(blocks)
		mid, last := len(used)/2, len(used)-1
		fmt.Fprintf(w, "%s\t%d\t%.1f %%\t%.1f %%\t%.2f %%\t%.2f %%\t%.2f\t%.2f\t\n", name, len(used), 100*used[mid], 100*used[0],
			100*refused[mid], 100*refused[last], blocks[mid], blocks[last])
		met = met && used[mid] >= LeastUsedMedian && used[0] >= LeastUsed && refused[last] < MostRefused && blocks[last] <= MostBlocks
	}
	return met, w.Flush()
}
