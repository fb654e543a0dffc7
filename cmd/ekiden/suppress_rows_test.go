package main

import (
	"errors"
	"io"
	"strings"
	"testing"
)

func FuzzRowReader(f *testing.F) {
	f.Add("one@example.jp\n# c\n\ntwo@example.jp\twhy\t2030-01-01\r\n", false)
	f.Add("address,reason\n\"a@example.jp\",\"b\nc\"\n,,\n", true)
	f.Add("\ufeffAddress\tLIST\nx\ty\n", false)
	f.Fuzz(func(t *testing.T, text string, comma bool) {
		r := newRowReader(strings.NewReader(text), comma)
		for range len(text) + 2 {
			row, err := r.next()
			switch {
			case errors.Is(err, errBadRow):
			case err != nil:
				if errors.Is(err, io.EOF) && r.line > strings.Count(text, "\n")+1 {
					t.Errorf("line %d of %d", r.line, strings.Count(text, "\n")+1)
				}
				return
			case row.Address == "" || strings.ContainsAny(row.Address, "\n\t"):
				t.Errorf("row %v", row)
			}
		}
		t.Error("it does not end")
	})
}
