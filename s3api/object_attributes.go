package s3api

import (
	"context"
	"strconv"
	"strings"

	"herald/auth"
	"herald/store"
)

const (
	hObjectAttributes = "X-Amz-Object-Attributes"
	hMaxParts         = "X-Amz-Max-Parts"
	hPartNumberMarker = "X-Amz-Part-Number-Marker"
)

// objectAttribute is one of those that GetObjectAttributes can show.
type objectAttribute uint8

const (
	showETag objectAttribute = 1 << iota
	showChecksum
	showParts
	showClass
	showSize
)

// parseObjectAttributes reads x-amz-object-attributes. Errors: InvalidArgument.
func parseObjectAttributes(lists []string) (set objectAttribute, err error) {
	for _, list := range lists {
		for name := range strings.SplitSeq(list, ",") {
			switch name = strings.TrimSpace(name); name {
			case "ETag":
				set |= showETag
			case "Checksum":
				set |= showChecksum
			case "ObjectParts":
				set |= showParts
			case "StorageClass":
				set |= showClass
			case "ObjectSize":
				set |= showSize
			default:
				return 0, invalidArgument("x-amz-object-attributes", name, "This is no attribute of objects.")
			}
		}
	}
	if set == 0 {
		return 0, invalidArgument("x-amz-object-attributes", "", "x-amz-object-attributes must name at least one attribute.")
	}
	return set, nil
}

// getObjectAttributes answers GetObjectAttributes.
func (s *Server) getObjectAttributes(ctx context.Context, r *request) (*response, error) {
	show, err := parseObjectAttributes(r.http.Header[hObjectAttributes])
	if err != nil {
		return nil, err
	}
	versionID, err := r.versionID()
	if err != nil {
		return nil, err
	}
	info, err := s.statObject(ctx, r, versionID, auth.PermRead)
	if err != nil {
		return nil, err
	}
	cond := readConditions(r.http.Header)
	if err := checkRead(&cond, info); err != nil {
		return nil, err
	}
	page, err := r.partPage()
	if err != nil {
		return nil, err
	}
	table, err := decodeParts(info.Attrs[attrParts])
	if err != nil {
		return nil, err
	}
	r.setHeader(hLastModified, httpTime(info.ModTime))
	r.setVersion(info)
	x := newXML("GetObjectAttributesResponse", nsS3)
	if show&showETag != 0 {
		x.elem("ETag", info.ETag)
	}
	if show&showChecksum != 0 && info.Attrs[attrChecksum] != "" {
		x.open("Checksum")
		writeChecksum(x, info.Attrs, true)
		x.end("Checksum")
	}
	if show&showParts != 0 && len(table.parts) > 0 {
		page.write(x, &table)
	}
	if show&showClass != 0 {
		class := info.Attrs[store.AttrStorageClass]
		if class == "" {
			class = classStandard
		}
		x.elem("StorageClass", class)
	}
	if show&showSize != 0 {
		x.number("ObjectSize", info.Size)
	}
	x.end("GetObjectAttributesResponse")
	return x.response(), nil
}

// partPage selects parts of a finished object.
type partPage struct{ marker, max int }

// partPage reads the headers that select parts. Errors: InvalidArgument.
func (r *request) partPage() (p partPage, err error) {
	if p.marker, err = r.headerNumber(hPartNumberMarker, 0); err != nil {
		return p, err
	}
	p.max, err = r.headerNumber(hMaxParts, maxListParts)
	p.max = min(p.max, maxListParts)
	return p, err
}

// headerNumber returns a header as a whole number from 0 to 2^31-1.
func (r *request) headerNumber(name string, def int) (int, error) {
	v := r.header(name)
	if v == "" {
		return def, nil
	}
	n, err := strconv.ParseInt(v, 10, 32)
	if err != nil || n < 0 {
		return 0, invalidArgument(strings.ToLower(name), v, "%s must be a whole number from 0 to 2147483647.", strings.ToLower(name))
	}
	return int(n), nil
}

// write writes the ObjectParts element.
func (p partPage) write(x *xmlWriter, table *partTable) {
	x.open("ObjectParts")
	x.number("PartsCount", int64(len(table.parts)))
	x.number("PartNumberMarker", int64(p.marker))
	rest := table.parts
	for len(rest) > 0 && rest[0].number <= p.marker {
		rest = rest[1:]
	}
	shown := rest[:min(p.max, len(rest))]
	if len(shown) > 0 {
		x.number("NextPartNumberMarker", int64(shown[len(shown)-1].number))
	}
	x.number("MaxParts", int64(p.max))
	x.bool("IsTruncated", len(shown) < len(rest))
	for i := range shown {
		x.open("Part")
		x.number("PartNumber", int64(shown[i].number))
		x.number("Size", shown[i].size)
		if shown[i].sum != nil {
			x.elem(table.alg.element(), encodeSum(shown[i].sum))
		}
		x.end("Part")
	}
	x.end("ObjectParts")
}
