//go:build !linux

package seal

// page holds one secret. Outside Linux it is ordinary memory: good for development, and it says so.
type page struct {
	mem  []byte
	kind string
}

func newPage(fill func([]byte)) (page, error) {
	p := page{mem: make([]byte, 4096), kind: "none"}
	fill(p.mem)
	return p, nil
}

func (p *page) close() error {
	clear(p.mem)
	p.mem = nil
	return nil
}
