package socket

// Ready is a socket with something to read.
type Ready struct {
	Token int32
	Last  bool // an end or an error has arrived as well: whoever has read all octets must read once more
}
