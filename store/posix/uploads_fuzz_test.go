package posix

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"herald/store"
)

func fuzzPart() *part {
	return &part{
		Part: store.Part{Number: 3, Size: 5, ETag: "e", ModTime: time.Unix(1, 2), Attrs: store.Attrs{"a": "b"}},
		file: "", crc: 7,
	}
}

// FuzzDecodeUpload: what is decoded is encoded to the same bytes.
func FuzzDecodeUpload(f *testing.F) {
	up := store.Upload{Key: "k", ID: "abc", Initiated: time.Unix(3, 4), Attrs: store.Attrs{"x": "\x00", "y": ""}}
	f.Add(encodeUpload(&up))
	f.Add((&uploadEntry{kind: kindUpload, bucket: "b", dir: 1, upload: up}).encode(nil)[1:])
	f.Add(fuzzPart().encode(nil))
	pe := partEntry{bucket: "b", id: "abc", part: *fuzzPart()}
	f.Add(append(pe.encode(nil)[1:], "12345"...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if u, err := decodeUpload(b); err == nil {
			again, err := decodeUpload(encodeUpload(&u))
			if err != nil || again.Key != u.Key || again.ID != u.ID || !again.Initiated.Equal(u.Initiated) || len(again.Attrs) != len(u.Attrs) {
				t.Errorf("%+v became %+v, %v", u, again, err)
			}
		}
		if e, err := decodeUploadEntry(kindUpload, &decoder{b: b}); err == nil && !validUploadID(e.upload.ID) {
			t.Errorf("an upload with id %q", e.upload.ID)
		}
		if p, err := decodePart(b); err == nil {
			again, err := decodePart(p.encode(nil))
			if err != nil || again.Number != p.Number || again.Size != p.Size || again.file != p.file || again.off != p.off {
				t.Errorf("%+v became %+v, %v", p, again, err)
			}
		}
		if e, err := decodePartEntry(&decoder{b: b}); err == nil && !validUploadID(e.id) {
			t.Errorf("a part of an upload with id %q", e.id)
		}
	})
}

// FuzzReadLog: a log that ends in nonsense gives its good records, and takes
// new ones.
func FuzzReadLog(f *testing.F) {
	f.Add([]byte{}, uint8(0))
	f.Add(bytes.Repeat([]byte{0}, 100), uint8(1))
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), uint8(2))
	f.Fuzz(func(t *testing.T, tail []byte, good uint8) {
		dir := t.TempDir()
		fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer closeFD(fd)
		name := uploadKey{"bucket", "id"}
		if err := os.MkdirAll(filepath.Join(dir, uploadDir(name.bucket, name.id)), 0o700); err != nil {
			t.Fatal(err)
		}
		load := func() *multipart {
			m := &multipart{d: &Driver{homeFD: fd}, name: name, parts: map[int]*part{}, claims: map[claim]bool{}}
			if err := m.loadLog(); err != nil {
				t.Fatal(err)
			}
			return m
		}
		add := func(m *multipart, n int) {
			p := fuzzPart()
			p.Number = n
			if _, err := m.add(p, []byte("12345")); err != nil {
				t.Fatal(err)
			}
		}
		m := load()
		for n := range int(good % 4) {
			add(m, n+1)
		}
		file := filepath.Join(dir, m.path("parts"))
		log, _ := os.ReadFile(file)
		if err := os.WriteFile(file, append(log, tail...), 0o600); err != nil {
			t.Fatal(err)
		}
		m = load()
		add(m, maxPartNumber)
		m = load()
		for _, n := range append(m.numbers(maxPartNumber-1), m.numbers(0)[:good%4]...) {
			p := m.parts[n]
			got := make([]byte, 5)
			src := &source{m: m}
			if err := src.read(got, p); p.crc == fuzzPart().crc && string(got) != "12345" {
				t.Errorf("part %d holds %q, %v", n, got, err)
			}
			src.close()
		}
		if len(m.numbers(0)) < int(good%4)+1 {
			t.Errorf("%d parts were lost", int(good%4)+1-len(m.parts))
		}
	})
}
