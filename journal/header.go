package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// header says where the records begin that matter. The file "header" has two
// blocks that are written in turn, so that a torn write leaves the older one.
type header struct {
	seq      uint64
	id       uint64 // of the journal: random, for ever
	epoch    uint64
	start    uint64 // position of the first batch that matters
	segBytes uint64
	segments uint32
	clean    bool // closed: there are no records
	relaxed  bool // batches were not flushed one by one
	done     map[Stream]LSN
}

const headerMagic = 0x31484a48 // "HJH1"

func (h *header) encode() []byte {
	b := make([]byte, 8, blockSize)
	binary.LittleEndian.PutUint32(b, headerMagic)
	b = binary.LittleEndian.AppendUint64(b, h.seq)
	b = binary.LittleEndian.AppendUint64(b, h.id)
	b = binary.LittleEndian.AppendUint64(b, h.epoch)
	b = binary.LittleEndian.AppendUint64(b, h.start)
	b = binary.LittleEndian.AppendUint64(b, h.segBytes)
	b = binary.LittleEndian.AppendUint32(b, h.segments)
	b = append(b, flag(h.clean, 1)|flag(h.relaxed, 2), byte(len(h.done)))
	for s, lsn := range h.done {
		b = append(b, byte(s))
		b = binary.LittleEndian.AppendUint64(b, uint64(lsn))
	}
	b = b[:blockSize]
	binary.LittleEndian.PutUint32(b[4:], crc32c(b[8:]))
	return b
}

func flag(on bool, bit byte) byte {
	if on {
		return bit
	}
	return 0
}

// decodeHeader returns nil when the block is no valid header.
func decodeHeader(b []byte) *header {
	if len(b) != blockSize || binary.LittleEndian.Uint32(b) != headerMagic ||
		binary.LittleEndian.Uint32(b[4:]) != crc32c(b[8:]) {
		return nil
	}
	h := &header{
		seq:      binary.LittleEndian.Uint64(b[8:]),
		id:       binary.LittleEndian.Uint64(b[16:]),
		epoch:    binary.LittleEndian.Uint64(b[24:]),
		start:    binary.LittleEndian.Uint64(b[32:]),
		segBytes: binary.LittleEndian.Uint64(b[40:]),
		segments: binary.LittleEndian.Uint32(b[48:]),
		clean:    b[52]&1 != 0,
		relaxed:  b[52]&2 != 0,
		done:     make(map[Stream]LSN),
	}
	p := b[54:]
	for range int(b[53]) {
		h.done[Stream(p[0])] = LSN(binary.LittleEndian.Uint64(p[1:]))
		p = p[9:]
	}
	if h.segBytes == 0 || h.segBytes%blockSize != 0 || h.segments < 2 || h.start%blockSize != 0 {
		return nil
	}
	return h
}

// readHeader returns the newest valid header, or nil when there is none
// because the journal is new.
func readHeader(dir string) (*header, error) {
	b, err := os.ReadFile(filepath.Join(dir, "header"))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(dir, "ring.0")); err == nil {
			return nil, fmt.Errorf("%w: %s has segments but no header", ErrCorrupt, dir)
		}
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read journal header: %w", err)
	}
	var newest *header
	for i := 0; i+blockSize <= len(b); i += blockSize {
		if h := decodeHeader(b[i : i+blockSize]); h != nil && (newest == nil || h.seq > newest.seq) {
			newest = h
		}
	}
	if newest == nil {
		return nil, fmt.Errorf("%w: both headers in %s", ErrCorrupt, filepath.Join(dir, "header"))
	}
	return newest, nil
}

// writeHeader makes h, with the next number, the durable header.
func writeHeader(dir string, h *header) error {
	h.seq++
	path := filepath.Join(dir, "header")
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return createHeader(dir, h)
	}
	if err != nil {
		return fmt.Errorf("write journal header: %w", err)
	}
	_, err = f.WriteAt(h.encode(), int64(h.seq%2)*blockSize)
	if err == nil {
		err = datasync(f)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write journal header: %w", err)
	}
	return nil
}

func createHeader(dir string, h *header) error {
	tmp := filepath.Join(dir, "header.tmp")
	f, err := os.Create(tmp)
	if err != nil {
		return fmt.Errorf("create journal header: %w", err)
	}
	b := h.encode()
	_, err = f.Write(append(b, b...))
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(tmp, filepath.Join(dir, "header"))
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("create journal header: %w", err)
	}
	return nil
}
