package s3api

import (
	"encoding/binary"
	"errors"
)

// partTable tells of which parts an object was made, for reads by part number
// and for GetObjectAttributes.
type partTable struct {
	alg   algorithm // of the parts' checksums
	parts []partEntry
}

type partEntry struct {
	number int
	size   int64
	sum    []byte // nil: none
}

const partTableVersion = 1

var errPartTable = errors.New("attribute " + attrParts + " is corrupt")

// encode returns the form in which the table is kept: version, algorithm, then
// for each part its number (less the one before), its size, and its checksum.
func (t *partTable) encode() string {
	b := make([]byte, 0, 2+len(t.parts)*(8+t.alg.size()))
	b = append(b, partTableVersion, byte(t.alg))
	last := 0
	for i := range t.parts {
		p := &t.parts[i]
		b = binary.AppendUvarint(b, uint64(p.number-last))
		b = binary.AppendUvarint(b, uint64(p.size))
		b = append(b, p.sum...)
		last = p.number
	}
	return string(b)
}

// decodeParts is the inverse of encode; of "" it is the empty table.
func decodeParts(s string) (t partTable, err error) {
	if s == "" {
		return t, nil
	}
	b := []byte(s)
	if len(b) < 2 || b[0] != partTableVersion || int(b[1]) >= algorithmCount {
		return t, errPartTable
	}
	t.alg = algorithm(b[1])
	number := 0
	for b = b[2:]; len(b) > 0; {
		delta, n := binary.Uvarint(b)
		if n <= 0 || delta == 0 || delta > maxPartNumber {
			return partTable{}, errPartTable
		}
		b = b[n:]
		size, n := binary.Uvarint(b)
		if n <= 0 || size > maxObjectBytes || len(b) < n+t.alg.size() {
			return partTable{}, errPartTable
		}
		b = b[n:]
		if number += int(delta); number > maxPartNumber {
			return partTable{}, errPartTable
		}
		p := partEntry{number: number, size: int64(size)}
		if t.alg != noAlgorithm {
			p.sum = b[:t.alg.size():t.alg.size()]
		}
		b = b[t.alg.size():]
		t.parts = append(t.parts, p)
	}
	return t, nil
}
