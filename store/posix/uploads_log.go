package posix

import (
	"encoding/binary"
	"hash/crc32"

	"golang.org/x/sys/unix"

	"herald/store"
)

// The log of an upload's parts: one record after the other, of which the last
// one with a number counts.
//
//	4 bytes  CRC-32C of what follows, without the data
//	4 bytes  length of the part's description (part.encode)
//	4 bytes  length of the data
//	...      description, data
//
// It is written without a flush. After a loss of power it may end anywhere, or
// in nonsense, but only behind what the journal's last checkpoint had: what is
// lost is in the journal and is appended again.

const logHeader = 12

// castagnoli is never written to.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// openFile opens one of the upload's files.
// Errors: store.ErrNoSuchUpload if it was removed, with the upload.
func (m *multipart) openFile(name string, flags int) (int, error) {
	fd, err := openBeneath(m.d.homeFD, m.path(name), flags, 0o666)
	if err != nil && flags&unix.O_CREAT != 0 && absent(err) {
		return -1, store.ErrNoSuchUpload
	}
	return fd, err
}

// loadLog reads the parts. What is behind the last whole record is cut off.
func (m *multipart) loadLog() error {
	fd, err := m.openFile("parts", unix.O_RDWR)
	if err != nil {
		if absent(err) {
			return nil
		}
		return err
	}
	defer closeFD(fd)
	st, err := statFD(fd)
	if err != nil {
		return err
	}
	for {
		p, next, err := readLog(fd, m.logSize, st.size)
		if err != nil {
			return err
		}
		if p == nil {
			break
		}
		m.parts[p.Number] = p
		m.logSize = next
	}
	if m.logSize < st.size {
		return againErr(func() error { return unix.Ftruncate(fd, m.logSize) })
	}
	return nil
}

// readLog reads the record at off; nil: there is none.
func readLog(fd int, off, size int64) (p *part, next int64, err error) {
	var head [logHeader]byte
	if n, err := readAt(fd, head[:], off); err != nil || n < len(head) {
		return nil, 0, err
	}
	descLen := int64(binary.LittleEndian.Uint32(head[4:]))
	dataLen := int64(binary.LittleEndian.Uint32(head[8:]))
	next = off + logHeader + descLen + dataLen
	if next > size {
		return nil, 0, nil
	}
	desc := make([]byte, descLen)
	if n, err := readAt(fd, desc, off+logHeader); err != nil || n < len(desc) {
		return nil, 0, err
	}
	if logSum(head[4:], desc) != binary.LittleEndian.Uint32(head[:]) {
		return nil, 0, nil
	}
	p, err = decodePart(desc)
	if err != nil || p.file == "" && p.Size != dataLen {
		return nil, 0, nil
	}
	if p.file == "" {
		p.off = next - dataLen
	}
	return p, next, nil
}

func logSum(lengths, desc []byte) uint32 {
	return crc32.Update(crc32.Checksum(lengths, castagnoli), castagnoli, desc)
}

// add writes a part to the log and makes it the one of its number. It returns
// the one that it replaces. A record that was cut short by an error is
// written over by the next.
func (m *multipart) add(p *part, data []byte) (old *part, err error) {
	desc := p.encode(nil)
	rec := make([]byte, logHeader, logHeader+len(desc)+len(data))
	binary.LittleEndian.PutUint32(rec[4:], uint32(len(desc)))
	binary.LittleEndian.PutUint32(rec[8:], uint32(len(data)))
	binary.LittleEndian.PutUint32(rec, logSum(rec[4:logHeader], desc))
	rec = append(append(rec, desc...), data...)
	fd, err := m.openFile("parts", unix.O_WRONLY|unix.O_CREAT)
	if err != nil {
		return nil, err
	}
	defer closeFD(fd)
	m.partsMu.Lock()
	defer m.partsMu.Unlock()
	if _, err := unix.Seek(fd, m.logSize, unix.SEEK_SET); err != nil {
		return nil, err
	}
	if err := writeAll(fd, rec); err != nil {
		return nil, err
	}
	if p.file == "" {
		p.off = m.logSize + int64(len(rec)-len(data))
	}
	m.logSize += int64(len(rec))
	old = m.parts[p.Number]
	m.parts[p.Number] = p
	if size, ok := dataFileSize(p.file); ok {
		m.claims[claim{size, p.Number}] = true
	}
	return old, nil
}
