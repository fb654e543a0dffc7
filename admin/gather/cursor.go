package gather

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/ekiden-mta/ekiden/admin/service"
)

// cursor is where a search over all members goes on: a position per member. A member without one is read from its
// beginning.
type cursor map[string]string

// mark begins the text form of a cursor; a position of one node alone begins otherwise.
const mark = "all."

// cursorAt parts the name of a member from a position in its log, in a cursor of that log alone: "n1@004f…".
const cursorAt = "@"

// maxMembers bounds the members in a cursor.
const maxMembers = 100

// String is what parseCursor reads.
func (c cursor) String() string {
	raw, _ := json.Marshal(map[string]string(c)) // texts always can be
	return mark + base64.RawURLEncoding.EncodeToString(raw)
}

// parseCursor reads a cursor; "" is the beginning. What is no cursor of all members is a position of the node self: a
// search may have begun before the others joined.
func parseCursor(s, self string) (cursor, error) {
	text, ok := strings.CutPrefix(s, mark)
	switch {
	case s == "":
		return cursor{}, nil
	case !ok:
		return cursor{self: s}, nil
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("%w: this is no cursor", service.ErrInvalid)
	}
	var c cursor
	if err := json.Unmarshal(raw, &c); err != nil || c == nil || len(c) > maxMembers {
		return nil, fmt.Errorf("%w: this is no cursor", service.ErrInvalid)
	}
	return c, nil
}
