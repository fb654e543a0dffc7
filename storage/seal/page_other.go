//go:build !linux

package seal

// page holds one secret. Outside Linux it is ordinary memory: good for development, and it says so.
type page struct {
	mem  []byte
	kind string
}

func newPage(secret []byte) (page, error) {
	return page{mem: append([]byte(nil), secret...), kind: "none"}, nil
}

func (p *page) close() error {
	clear(p.mem)
	p.mem = nil
	return nil
}
