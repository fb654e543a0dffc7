package compat

import (
	"archive/zip"
	"cmp"
	"encoding/csv"
	"net/http"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
)

// downloadTime bounds a download: a long list is written while it is read.
const downloadTime = 10 * time.Minute

// download answers with a CSV in a ZIP, both of that name. rows calls row for each; row returns false where nobody reads
// any more. Once this has begun nothing can be refused: where it fails the connection breaks, and a peer sees an answer
// without its end. Members that are missing are named behind the body, in a trailer.
func (c *call) download(w http.ResponseWriter, name string, columns []string, rows func(row func(cells ...string) bool) error) error {
	// A server that cannot move the limit keeps the one it has.
	_ = http.NewResponseController(w).SetWriteDeadline(clock.Wall().Add(downloadTime))
	w.Header().Set("Content-Type", "application/zip")
	w.Header().Set("Content-Disposition", `attachment; filename="`+name+`.zip"`)
	w.Header().Set("Trailer", MissingHeader)
	defer func() { TellMissing(w, c.missing) }()
	pack := zip.NewWriter(w)
	file, err := pack.Create(name + ".csv")
	if err != nil {
		c.cut(err)
	}
	out := csv.NewWriter(file)
	err = out.Write(columns)
	if err == nil {
		var broken error
		err = c.incomplete(rows(func(cells ...string) bool {
			for i := range cells {
				cells[i] = PlainCell(cells[i])
			}
			broken = out.Write(cells)
			return broken == nil
		}))
		err = cmp.Or(broken, err)
	}
	if out.Flush(); err == nil {
		err = out.Error()
	}
	if err == nil {
		err = pack.Close()
	}
	if err != nil {
		c.cut(err)
	}
	return nil
}

// cut breaks the connection of a download that cannot be ended as it ought to.
func (c *call) cut(err error) {
	c.c.Log.Warn("download ended early", "user", c.user.Name, "error", err)
	panic(http.ErrAbortHandler)
}

// PlainCell is a cell that no spreadsheet takes for a formula (threat T19).
func PlainCell(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}
