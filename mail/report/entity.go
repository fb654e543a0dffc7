package report

import (
	"bytes"
	"encoding/base64"
	"io"
	"mime"
	"mime/quotedprintable"
	"strings"

	"golang.org/x/text/encoding/htmlindex"
)

// walk is what is found in the parts of a message.
type walk struct {
	parts    int
	status   []byte   // message/delivery-status
	feedback []byte   // message/feedback-report
	text     []string // readable parts, in order
	returned []byte   // header section of the message it is about
	spam     bool     // au says that its filter refused the message
}

// split parts a message into its header section, with its last line end, and its body.
func split(msg []byte) (header, body []byte) {
	for pos := 0; pos < len(msg); {
		end := bytes.IndexByte(msg[pos:], '\n')
		if end < 0 {
			return msg, nil
		}
		line := msg[pos : pos+end+1]
		if len(bytes.TrimRight(line, "\r\n")) == 0 {
			return msg[:pos], msg[pos+end+1:]
		}
		pos += end + 1
	}
	return msg, nil
}

// entity reads one MIME entity and those inside.
func (w *walk) entity(msg []byte, depth int) {
	if w.parts++; depth > maxDepth || w.parts > maxParts {
		return
	}
	header, body := split(msg)
	if strings.EqualFold(value(header, "X-SPASIGN"), "NG") {
		w.spam = true
	}
	kind, params, err := mime.ParseMediaType(value(header, "Content-Type"))
	if err != nil && kind == "" {
		kind = "text/plain"
	}
	encoding := value(header, "Content-Transfer-Encoding")
	switch {
	case strings.HasPrefix(kind, "multipart/") && params["boundary"] != "":
		w.multipart(body, params["boundary"], depth)
	case kind == "message/delivery-status" || kind == "message/global-delivery-status":
		if w.status == nil {
			w.status = decode(body, encoding)
		}
	case kind == "message/feedback-report":
		if w.feedback == nil {
			w.feedback = decode(body, encoding)
		}
	case kind == "message/rfc822" || kind == "text/rfc822-headers" || kind == "message/global" || kind == "message/global-headers":
		if w.returned == nil {
			w.returned, _ = split(decode(body, encoding))
			w.spam = w.spam || strings.EqualFold(value(w.returned, "X-SPASIGN"), "NG")
		}
	case kind == "text/html":
		w.text = append(w.text, plain(readable(decode(body, encoding), params["charset"])))
	case strings.HasPrefix(kind, "text/"):
		w.text = append(w.text, readable(decode(body, encoding), params["charset"]))
	}
}

// multipart reads the parts between boundaries (RFC 2046 §5.1). One that is not ended ends with the message.
func (w *walk) multipart(body []byte, boundary string, depth int) {
	delimiter := []byte("--" + boundary)
	start := -1
	for pos := 0; pos < len(body) && w.parts <= maxParts; {
		end := bytes.IndexByte(body[pos:], '\n')
		if end < 0 {
			end = len(body) - pos - 1
		}
		line := body[pos : pos+end+1]
		if rest, ok := bytes.CutPrefix(line, delimiter); ok {
			rest = bytes.TrimRight(rest, " \t\r\n")
			if len(rest) == 0 || bytes.Equal(rest, []byte("--")) {
				if start >= 0 {
					w.entity(body[start:pos], depth+1)
				}
				if len(rest) > 0 {
					return
				}
				start = pos + end + 1
			}
		}
		pos += end + 1
	}
	if start >= 0 && start < len(body) {
		w.entity(body[start:], depth+1)
	}
}

// decode takes a transfer encoding off, up to maxText octets; what is damaged is read as far as it goes.
func decode(body []byte, encoding string) []byte {
	var in io.Reader = bytes.NewReader(body)
	switch strings.ToLower(encoding) {
	case "base64":
		in = base64.NewDecoder(base64.StdEncoding, in)
	case "quoted-printable":
		in = quotedprintable.NewReader(in)
	}
	var out bytes.Buffer
	_, _ = io.Copy(&out, io.LimitReader(in, maxText)) // an error ends what can be read, and that is all
	return out.Bytes()
}

// readable is text in UTF-8, as far as its character set is known.
func readable(b []byte, charset string) string {
	if charset != "" && !strings.EqualFold(charset, "utf-8") && !strings.EqualFold(charset, "us-ascii") {
		if enc, err := htmlindex.Get(charset); err == nil {
			if out, err := enc.NewDecoder().Bytes(b); err == nil {
				b = out[:min(len(out), maxText)]
			}
		}
	}
	return strings.ReplaceAll(string(b), "\r\n", "\n")
}

// plain leaves the tags of HTML out, roughly: what is wanted are addresses and codes.
func plain(html string) string {
	var b strings.Builder
	for html != "" {
		open := strings.IndexByte(html, '<')
		if open < 0 {
			b.WriteString(html)
			break
		}
		b.WriteString(html[:open])
		end := strings.IndexByte(html[open:], '>')
		if end < 0 {
			break
		}
		if tag := html[open : open+end+1]; strings.Contains(tag, "@") && !strings.ContainsAny(tag, " =") {
			b.WriteString(tag) // an address in brackets is no tag
		} else {
			b.WriteByte('\n')
		}
		html = html[open+end+1:]
	}
	return strings.NewReplacer("&lt;", "<", "&gt;", ">", "&nbsp;", " ", "&amp;", "&").Replace(b.String())
}

// id is the Message-ID of the message that the report is about.
func (w *walk) id() string { return value(w.returned, "Message-ID") }
