package compat

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"net/http"
)

// answer is a body in both formats: {"name":[…]} and <name><item>…</item></name>, or with no item {"name":"text"}.
type answer struct {
	name, item string
	list       []any
	text       string
}

// encode returns the body and its type. JSON is UTF-8 as it is, with LF at its end (requirement B1).
func (a *answer) encode(asXML bool) (body []byte, kind string, err error) {
	var out bytes.Buffer
	if !asXML {
		var value any = a.text
		if a.item != "" {
			value = append([]any{}, a.list...)
		}
		err = json.NewEncoder(&out).Encode(map[string]any{a.name: value})
		return out.Bytes(), "application/json; charset=UTF-8", err
	}
	out.WriteString(xml.Header)
	enc := xml.NewEncoder(&out)
	root := xml.StartElement{Name: xml.Name{Local: a.name}}
	if a.item == "" {
		err = enc.EncodeElement(a.text, root)
	} else {
		if err = enc.EncodeToken(root); err == nil {
			for _, one := range a.list {
				if err = enc.EncodeElement(one, xml.StartElement{Name: xml.Name{Local: a.item}}); err != nil {
					break
				}
			}
		}
		if err == nil {
			err = enc.EncodeToken(root.End())
		}
	}
	if err == nil {
		err = enc.Flush()
	}
	out.WriteByte('\n')
	return out.Bytes(), "application/xml; charset=UTF-8", err
}

// write answers with a body of one of the two formats.
func write(w http.ResponseWriter, status int, a *answer, asXML bool) error {
	body, kind, err := a.encode(asXML)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	_, _ = w.Write(body) // a peer that has gone away is no trouble
	return nil
}
