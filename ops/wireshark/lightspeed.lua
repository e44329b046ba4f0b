-- Wireshark dissector for LightSpeed: the tunnel (header versions 1, 2, 8 and 9) and the control
-- messages that travel over QUIC. Wireshark and tshark 4.0 or newer; how to use it: README.md.
-- Source: lightspeed_protocol/PROTOCOL.md, "Tunnel header", "XOR repair", "Sealed header",
-- "Receiver reports",
-- "Asking again", "Control messages" and "Extensions".
--
-- Every read is checked against the bytes there are. What breaks a rule becomes expert info and is
-- shown as far as it can be read; nothing a capture holds may end in a Lua error.

local tunnel = Proto("lightspeed", "LightSpeed Tunnel")
local control = Proto("lightspeed.control", "LightSpeed Control")
local in_quic = Proto("lightspeed.quic", "LightSpeed Control in QUIC")

local data = Dissector.get("data")

local function malformed(abbr, text)
    return ProtoExpert.new(abbr, text, expert.group.MALFORMED, expert.severity.ERROR)
end

local function odd(abbr, text)
    return ProtoExpert.new(abbr, text, expert.group.PROTOCOL, expert.severity.WARN)
end

local function by_capture(abbr)
    return ProtoExpert.new(abbr, "Cut by the capture", expert.group.UNDECODED, expert.severity.NOTE)
end

-- Tunnel ---------------------------------------------------------------------------------------

local VERSIONS = {
    [1] = "plain", [2] = "XOR repair", [8] = "sealed, IPv4 inside", [9] = "sealed, IPv6 inside",
}
local HEADER_BYTES = { [1] = 20, [2] = 24, [8] = 36, [9] = 60 }
local PREFIX_BYTES = 8 -- up to the addresses
local LARGEST_K = 16
local LARGEST_WINDOW = 64
local LARGEST_STRIDE = 16
local LARGEST_REACH = 128 -- source packets from the oldest covered to the newest
local LARGEST_SYMBOL = 2 + 1400
local KEYS = 128
local REPORT_BYTES = 12
local PROBE_BYTES = 4
local LARGEST_BITMAP = 8
local TEXT_RUN = "[\32-\126][\32-\126][\32-\126][\32-\126]" -- what makes a payload worth reading

local FEC_KINDS = { [0] = "source", [1] = "repair", [2] = "receiver report", [3] = "ask" }
local FEC_FIELDS = { [0] = "XOR", [1] = "GF(256)" }

local T = {
    version = ProtoField.uint8("lightspeed.version", "Version", base.DEC, VERSIONS, 0xf0),
    flags = ProtoField.uint8("lightspeed.flags", "Flags", base.HEX, nil, 0x0f),
    keepalive = ProtoField.bool("lightspeed.flags.keepalive", "KEEPALIVE", 8, nil, 1),
    handshake = ProtoField.bool("lightspeed.flags.handshake", "HANDSHAKE", 8, nil, 2),
    fin = ProtoField.bool("lightspeed.flags.fin", "FIN", 8, nil, 4),
    fragment = ProtoField.bool("lightspeed.flags.fragment", "FRAGMENT (reserved)", 8, nil, 8),
    repair = ProtoField.bool("lightspeed.flags.repair", "REPAIR", 8, nil, 8),
    kind = ProtoField.string("lightspeed.kind", "Kind of packet"),
    token = ProtoField.uint8("lightspeed.token", "Session token"),
    path = ProtoField.uint8("lightspeed.path", "Path id"),
    seq = ProtoField.uint16("lightspeed.seq", "Sequence"),
    timestamp = ProtoField.uint32("lightspeed.timestamp", "Timestamp (microseconds)"),
    src = ProtoField.ipv4("lightspeed.src", "Source address"),
    dst = ProtoField.ipv4("lightspeed.dst", "Destination address"),
    src6 = ProtoField.ipv6("lightspeed.src6", "Source address"),
    dst6 = ProtoField.ipv6("lightspeed.dst6", "Destination address"),
    srcport = ProtoField.uint16("lightspeed.srcport", "Source port"),
    dstport = ProtoField.uint16("lightspeed.dstport", "Destination port"),
    fec = ProtoField.bytes("lightspeed.fec", "FEC field"),
    block = ProtoField.uint16("lightspeed.fec.block", "Block"),
    index = ProtoField.uint8("lightspeed.fec.index", "Index in the block"),
    k = ProtoField.uint8("lightspeed.fec.k", "K, source packets in the block"),
    fec_kind = ProtoField.uint8("lightspeed.fec.kind", "Kind", base.DEC, FEC_KINDS, 0xc0),
    field = ProtoField.uint8("lightspeed.fec.field", "Arithmetic", base.DEC, FEC_FIELDS, 0x30),
    window = ProtoField.uint8("lightspeed.fec.window", "Window, source packets covered"),
    ssn = ProtoField.uint16("lightspeed.fec.ssn", "Source sequence number (SSN)"),
    newest = ProtoField.uint16("lightspeed.fec.newest", "Newest SSN covered"),
    highest = ProtoField.uint16("lightspeed.fec.highest", "Highest SSN received"),
    oldest = ProtoField.uint16("lightspeed.fec.oldest", "Oldest SSN asked for"),
    bitmap = ProtoField.bytes("lightspeed.fec.bitmap", "Asked for, from the oldest on"),
    asked = ProtoField.uint16("lightspeed.fec.asked", "SSN asked for"),
    key = ProtoField.uint8("lightspeed.fec.key", "Key of the coefficients"),
    stride = ProtoField.uint8("lightspeed.fec.stride", "Stride"),
    symbol = ProtoField.bytes("lightspeed.fec.symbol", "Symbol"),
    lengths = ProtoField.uint16("lightspeed.fec.lengths", "XOR of the payload lengths"),
    received = ProtoField.uint16("lightspeed.report.received", "Received"),
    lost = ProtoField.uint16("lightspeed.report.lost", "Lost"),
    runs = ProtoField.uint16("lightspeed.report.runs", "Loss runs"),
    repaired = ProtoField.uint16("lightspeed.report.repaired", "Repaired"),
    late = ProtoField.uint16("lightspeed.report.late", "Repaired late"),
    longest = ProtoField.uint8("lightspeed.report.longest", "Longest run"),
    report_path = ProtoField.uint8("lightspeed.report.path", "Path"),
    session = ProtoField.uint32("lightspeed.session", "Session id"),
    tag = ProtoField.bytes("lightspeed.tag", "Tag (not checked: needs the session key)"),
    echo = ProtoField.bytes("lightspeed.echo", "Payload to be answered"),
    probe = ProtoField.uint16("lightspeed.probe", "Probe number"),
    round_trip = ProtoField.uint16("lightspeed.round_trip",
        "Round trip its sender has measured (100 microseconds)"),
    length = ProtoField.uint16("lightspeed.length", "Payload length"),
    text = ProtoField.string("lightspeed.text", "Payload as text"),
}
tunnel.fields = T

local X = {
    short = malformed("lightspeed.short", "Too short"),
    version = malformed("lightspeed.bad_version", "Unknown header version"),
    fec = malformed("lightspeed.bad_fec", "FEC field against the rules"),
    odd = odd("lightspeed.unexpected", "Unexpected in such a packet"),
    capture = by_capture("lightspeed.cut"),
}
tunnel.experts = X

-- All settings stand here: `-o lightspeed.control.x` would be looked for in this protocol too.
tunnel.prefs.tunnel_ports =
    Pref.range("Tunnel UDP ports", "4434", "Ports of nodes' data sockets", 65535)
tunnel.prefs.quic_ports = Pref.range("QUIC control ports without ALPN", "4433",
    "UDP ports where QUIC streams of a connection without ALPN hold control messages", 65535)
tunnel.prefs.plain_ports = Pref.range("Plain control UDP ports", "",
    "UDP ports whose datagrams hold control messages as they are, without QUIC", 65535)

-- "4434,5000-5010" as a list of pairs.
local function ranges(text)
    local found = {}
    for part in tostring(text):gmatch("[^,%s]+") do
        local first, last = part:match("^(%d+)%-(%d+)$")
        first = first or part:match("^%d+$")
        if first then
            found[#found + 1] = { tonumber(first), tonumber(last or first) }
        end
    end
    return found
end

local function is_in(list, port)
    for _, pair in ipairs(list) do
        if pair[1] <= port and port <= pair[2] then
            return true
        end
    end
    return false
end

local tunnel_ports = {}

local function all_zero(tvb, at, count)
    for i = at, at + count - 1 do
        if tvb(i, 1):uint() ~= 0 then
            return false
        end
    end
    return true
end

-- The first 8 bytes, the addresses, and where things are in this version. nil when even the
-- header is not whole.
local function read_header(tvb)
    local length = tvb:len()
    if length < PREFIX_BYTES then
        return nil
    end
    local h = { version = tvb(0, 1):bitfield(0, 4), flags = tvb(0, 1):bitfield(4, 4) }
    h.size = HEADER_BYTES[h.version]
    if not h.size then
        return nil
    end
    h.sealed = h.version >= 8
    h.address_bytes = h.version == 9 and 16 or 4
    h.ports_at = PREFIX_BYTES + 2 * h.address_bytes
    h.fec_at = h.ports_at + 4
    if h.version == 2 and h.flags ~= 0 and tvb:reported_len() == h.fec_at then
        h.size = h.fec_at -- a flag and no payload: no FEC field either
    end
    if length < h.size then
        return nil
    end
    h.has_fec = h.size > h.fec_at
    h.seq = tvb(2, 2):uint()
    h.zero = all_zero(tvb, PREFIX_BYTES, h.fec_at - PREFIX_BYTES)
    h.src_port = tvb(h.ports_at, 2):uint()
    h.dst_port = tvb(h.ports_at + 2, 2):uint()
    h.payload = tvb:reported_len() - h.size
    return h
end

local function endpoint(tvb, h, address_at, port)
    local range = tvb(address_at, h.address_bytes)
    if h.address_bytes == 16 then
        return ("[%s]:%d"):format(tostring(range:ipv6()), port)
    end
    return ("%s:%d"):format(tostring(range:ipv4()), port)
end

local function conversation(tvb, h)
    local from = endpoint(tvb, h, PREFIX_BYTES, h.src_port)
    local to = endpoint(tvb, h, PREFIX_BYTES + h.address_bytes, h.dst_port)
    return from .. " > " .. to
end

-- What the packet is, in one word, from its flags and FEC field.
local function kind_of(tvb, h)
    local repair = h.sealed and h.flags >= 8
    local control_flags = h.flags % 8
    if control_flags == 1 then
        return "keepalive"
    elseif control_flags == 2 then
        return "handshake"
    elseif control_flags == 4 then
        return "fin"
    elseif control_flags ~= 0 then
        return "mixed"
    elseif not h.sealed and h.flags == 8 then
        return "fragment"
    elseif h.version == 1 then
        return "data"
    elseif h.version == 2 then
        return tvb(h.fec_at + 2, 1):uint() == tvb(h.fec_at + 3, 1):uint() and "repair" or "source"
    elseif repair then
        return "repair"
    end
    return ({ [2] = "report", [3] = "ask" })[tvb(h.fec_at, 1):bitfield(0, 2)] or "source"
end

local function add_flags(tvb, tree, h)
    local item = tree:add(T.flags, tvb(0, 1))
    local last = h.sealed and T.repair or T.fragment
    for _, field in ipairs({ last, T.fin, T.handshake, T.keepalive }) do
        item:add(field, tvb(0, 1))
    end
    local names = {}
    local bits = { { 8, h.sealed and "REPAIR" or "FRAGMENT" }, { 4, "FIN" }, { 2, "HANDSHAKE" },
        { 1, "KEEPALIVE" } }
    for _, bit in ipairs(bits) do
        if h.flags % (2 * bit[1]) >= bit[1] then
            names[#names + 1] = bit[2]
        end
    end
    item:append_text(#names > 0 and " (" .. table.concat(names, ", ") .. ")" or " (none)")
    if #names > 1 then
        item:add_proto_expert_info(X.odd, "Two flags in one packet")
    end
end

local function add_addresses(tvb, tree, h)
    local six = h.version == 9
    local size = h.address_bytes
    tree:add(six and T.src6 or T.src, tvb(PREFIX_BYTES, size))
    tree:add(six and T.dst6 or T.dst, tvb(PREFIX_BYTES + size, size))
    tree:add(T.srcport, tvb(h.ports_at, 2))
    tree:add(T.dstport, tvb(h.ports_at + 2, 2))
    local flagged = h.kind == "keepalive" or h.kind == "handshake"
    if not h.zero and (flagged or h.kind == "fin" and not h.sealed) then
        tree:add_proto_expert_info(X.odd, "Addresses in a " .. h.kind:upper() .. ", which has none")
    end
end

-- Version 2: block, index, K. Returns the words for the info column.
local function add_block(tvb, tree, at)
    local item = tree:add(T.fec, tvb(at, 4))
    item:add(T.block, tvb(at, 2))
    item:add(T.index, tvb(at + 2, 1))
    item:add(T.k, tvb(at + 3, 1))
    local block, index, k = tvb(at, 2):uint(), tvb(at + 2, 1):uint(), tvb(at + 3, 1):uint()
    if k == 0 or k > LARGEST_K then
        item:add_proto_expert_info(X.fec, ("K is %d; it goes from 1 to %d"):format(k, LARGEST_K))
    elseif index > k then
        item:add_proto_expert_info(X.fec, ("Index %d in a block of K %d"):format(index, k))
    end
    local role = index == k and "repair packet" or ("source packet %d of %d"):format(index + 1, k)
    if index <= k then
        item:append_text((", block %d, %s"):format(block, role))
    end
    return ("block %d index %d K %d"):format(block, index, k)
end

-- What bytes 22-23 (46-47) are called, without REPAIR.
local NUMBERS = {
    source = { T.ssn, "ssn %d" },
    report = { T.highest, "highest %d" },
    ask = { T.oldest, "oldest %d" },
}

-- Versions 8 and 9: what bytes 20-23 (44-47) mean depends on the kind of packet.
local function add_window(tvb, tree, at, h)
    local item = tree:add(T.fec, tvb(at, 4))
    if h.kind ~= "repair" and not NUMBERS[h.kind] then
        if not all_zero(tvb, at, 4) then
            item:add_proto_expert_info(X.fec, "Not zero, though no game packet nor REPAIR")
        end
        return ""
    end
    item:add(T.fec_kind, tvb(at, 1))
    local number = tvb(at + 2, 2):uint()
    local kind = tvb(at, 1):bitfield(0, 2)
    if h.kind == "repair" then
        if kind ~= 1 then
            item:add_proto_expert_info(X.fec, ("Kind %d in a REPAIR packet"):format(kind))
            return ""
        end
        local window = tvb(at + 1, 1):uint()
        item:add(T.field, tvb(at, 1))
        item:add(T.window, tvb(at + 1, 1))
        item:add(T.newest, tvb(at + 2, 2))
        if tvb(at, 1):bitfield(2, 2) > 1 then
            item:add_proto_expert_info(X.fec, "Arithmetic is neither XOR nor GF(256)")
        elseif tvb(at, 1):bitfield(4, 4) ~= 0 then
            item:add_proto_expert_info(X.fec, "The low bits of the first byte are not zero")
        elseif window == 0 or window > LARGEST_WINDOW then
            local text = "The window is %d; it goes from 1 to %d"
            item:add_proto_expert_info(X.fec, text:format(window, LARGEST_WINDOW))
        end
        return ("window %d newest %d"):format(window, number)
    end
    item:add(NUMBERS[h.kind][1], tvb(at + 2, 2))
    if kind == 1 then
        item:add_proto_expert_info(X.fec, "A repair's FEC field without REPAIR")
        return ""
    end
    if tvb(at, 1):bitfield(2, 6) ~= 0 or tvb(at + 1, 1):uint() ~= 0 then
        item:add_proto_expert_info(X.fec, "Bits that must be zero are not")
    end
    return NUMBERS[h.kind][2]:format(number)
end

local function add_repair(tvb, range, tree, h)
    local need = h.sealed and 4 or 2 -- a symbol holds the lengths, 2 bytes, at the least
    local have = range and range:len() or 0
    if have < need then
        if not h.cut then
            tree:add_proto_expert_info(X.short, ("Repair of %d bytes, need %d"):format(have, need))
        end
        return
    end
    if not h.sealed then
        if have > 2 then
            tree:add(T.symbol, range(0, have - 2))
        end
        if not h.cut then -- else they are not there
            tree:add(T.lengths, range(have - 2, 2))
        end
        return
    end
    local key, stride = range(0, 1):uint(), range(1, 1):uint() + 1
    local window = tvb(h.fec_at + 1, 1):uint()
    local key_item = tree:add(T.key, range(0, 1))
    local stride_item = tree:add(T.stride, range(1, 1), stride)
    tree:add(T.symbol, range(2))
    if key >= KEYS then
        key_item:add_proto_expert_info(X.fec, ("The key is below %d"):format(KEYS))
    end
    if stride > LARGEST_STRIDE then
        local text = ("The stride is at most %d"):format(LARGEST_STRIDE)
        stride_item:add_proto_expert_info(X.fec, text)
    elseif (window - 1) * stride >= LARGEST_REACH then
        local text = ("Window and stride reach over more than %d packets"):format(LARGEST_REACH)
        stride_item:add_proto_expert_info(X.fec, text)
    end
    if h.payload - 2 > LARGEST_SYMBOL then
        local text = ("A symbol of %d bytes; at most %d"):format(h.payload - 2, LARGEST_SYMBOL)
        tree:add_proto_expert_info(X.fec, text)
    end
end

local function add_report(range, tree, h)
    local have = range and range:len() or 0
    if have < REPORT_BYTES then
        if not h.cut then
            local text = "Receiver report of %d bytes, need %d"
            tree:add_proto_expert_info(X.short, text:format(have, REPORT_BYTES))
        end
        return
    end
    for i, field in ipairs({ T.received, T.lost, T.runs, T.repaired, T.late }) do
        tree:add(field, range(2 * i - 2, 2))
    end
    tree:add(T.longest, range(10, 1))
    tree:add(T.report_path, range(11, 1))
    local lost, longest = range(2, 2):uint(), range(10, 1):uint()
    local wrong = {
        { h.payload > REPORT_BYTES, ("A report of %d bytes"):format(h.payload) },
        { range(4, 2):uint() > lost, "More runs than packets lost" },
        { range(8, 2):uint() > range(6, 2):uint(), "More repaired late than repaired" },
        { lost > 0 and longest == 0, "Lost packets, and no run of them" },
        { lost == 0 and longest > 0, "A run of losses, and nothing lost" },
    }
    for _, each in ipairs(wrong) do
        if each[1] then
            tree:add_proto_expert_info(X.fec, each[2])
        end
    end
end

-- What a client's sealed KEEPALIVE says, and the node's answer repeats. Returns the words.
local function add_probe(range, tree)
    local number, ticks = range(0, 2):uint(), range(2, 2):uint()
    tree:add(T.probe, range(0, 2))
    local item = tree:add(T.round_trip, range(2, 2))
    item:append_text(ticks > 0 and (", %.1f ms"):format(ticks / 10) or ", none yet")
    local words = ("probe %d"):format(number)
    return ticks > 0 and ("%s round trip %.1f ms"):format(words, ticks / 10) or words
end

local function add_ask(tvb, range, tree, h)
    local oldest = tvb(h.fec_at + 2, 2):uint()
    local have = range and range:len() or 0
    if have == 0 then
        if not h.cut then
            tree:add_proto_expert_info(X.short, "An ask without a bitmap")
        end
        return
    end
    local item = tree:add(T.bitmap, range)
    for i = 0, math.min(have, LARGEST_BITMAP) - 1 do
        for bit = 0, 7 do
            if range(i, 1):bitfield(7 - bit, 1) == 1 then
                item:add(T.asked, range(i, 1), (oldest + 8 * i + bit) % 65536)
            end
        end
    end
    if have > LARGEST_BITMAP then
        local text = ("A bitmap of %d bytes; at most %d"):format(have, LARGEST_BITMAP)
        item:add_proto_expert_info(X.fec, text)
    elseif range(0, 1):bitfield(7, 1) == 0 then
        item:add_proto_expert_info(X.fec, "The oldest is not asked for")
    elseif range(have - 1, 1):uint() == 0 and not h.cut then
        item:add_proto_expert_info(X.fec, "The bitmap ends with a zero byte")
    end
end

local dissect_tunnel

-- A game's datagram: as it is, or one tunnel packet inside another (through an entry node).
local function add_payload(range, pinfo, root, tree, h, depth)
    if depth == 0 and (is_in(tunnel_ports, h.dst_port) or is_in(tunnel_ports, h.src_port)) then
        return dissect_tunnel(range:tvb(), pinfo, root, depth + 1)
    end
    local raw = range:raw()
    if raw:find(TEXT_RUN) then
        tree:add(T.text, range, (raw:gsub("[^\32-\126]", "."))):set_generated()
    end
    data:call(range:tvb(), pinfo, root)
    return nil
end

-- Words for the info column. `depth` 1 is a tunnel packet inside another.
dissect_tunnel = function(tvb, pinfo, root, depth)
    local length = tvb:len()
    local h = read_header(tvb)
    local cut = tvb:reported_len() > length or pinfo.in_error_pkt -- ICMP quotes the beginning
    local tree = root:add(tunnel, tvb(0, h and h.size or length))
    if h == nil then
        local version = length > 0 and tvb(0, 1):bitfield(0, 4)
        if version then
            tree:add(T.version, tvb(0, 1))
        end
        if version and not VERSIONS[version] then
            local text = ("Version %d is not one of 1, 2, 8, 9"):format(version)
            tree:add_proto_expert_info(X.version, text)
            if length > 1 then
                data:call(tvb(1):tvb(), pinfo, root)
            end
            return text
        end
        local need = version and HEADER_BYTES[version] or HEADER_BYTES[1]
        local text = ("%d bytes, the header needs %d"):format(length, need)
        tree:add_proto_expert_info(cut and X.capture or X.short, text)
        if length > 1 then
            data:call(tvb(1):tvb(), pinfo, root)
        end
        return text
    end

    h.cut = cut
    h.kind = kind_of(tvb, h)
    tree:add(T.version, tvb(0, 1))
    add_flags(tvb, tree, h)
    tree:add(T.kind, tvb(0, 1), h.kind):set_generated()
    tree:add(h.sealed and T.path or T.token, tvb(1, 1))
    tree:add(T.seq, tvb(2, 2))
    tree:add(T.timestamp, tvb(4, 4))
    add_addresses(tvb, tree, h)
    local repair_words = ""
    if h.has_fec then
        repair_words = h.sealed and add_window(tvb, tree, h.fec_at, h)
            or add_block(tvb, tree, h.fec_at)
    end
    if h.sealed then
        tree:add(T.session, tvb(h.fec_at + 4, 4))
        tree:add(T.tag, tvb(h.fec_at + 8, 8))
    end
    tree:add(T.length, h.payload):set_generated()
    if tvb:reported_len() > length then
        local text = ("The capture holds %d of %d bytes"):format(length, tvb:reported_len())
        tree:add_proto_expert_info(X.capture, text)
    end

    local words = { ("v%d %s seq %d"):format(h.version, h.kind, h.seq) }
    if repair_words ~= "" then
        words[#words + 1] = repair_words
    end
    if h.sealed and h.zero then
        words[#words + 1] = ("session %d"):format(tvb(h.fec_at + 4, 4):uint())
    end
    if not h.zero then
        words[#words + 1] = conversation(tvb, h)
    end
    words[#words + 1] = ("len %d"):format(h.payload)
    local range = length > h.size and tvb(h.size) or nil
    if h.sealed and h.kind == "keepalive" and h.payload == PROBE_BYTES and not h.cut then
        words[#words + 1] = add_probe(range, tree)
    end
    tree:append_text(", " .. table.concat(words, " "))

    local inner
    if h.kind == "repair" then
        add_repair(tvb, range, tree, h)
    elseif h.kind == "report" then
        add_report(range, tree, h)
    elseif h.kind == "ask" then
        add_ask(tvb, range, tree, h)
    elseif range and (h.kind == "data" or h.kind == "source") then
        inner = add_payload(range, pinfo, root, tree, h, depth)
    elseif range then
        tree:add(T.echo, range)
        if not h.sealed then
            tree:add_proto_expert_info(X.odd, "A payload in a packet that has none")
        end
    end
    local text = table.concat(words, " ")
    return inner and text .. " | " .. inner or text
end

function tunnel.dissector(tvb, pinfo, root)
    pinfo.cols.protocol:set("LightSpeed")
    pinfo.cols.info:set(dissect_tunnel(tvb, pinfo, root, 0))
    return tvb:len()
end

-- On any other port: a packet that can hardly be anything else makes both its ends known, and from
-- that packet on every header that can be read to or from one of them is taken. Versions 1 and 2
-- give a node away by their keepalives only: 12 bytes of zero in a packet of 20.
local known = {}

function tunnel.init()
    known = {}
end

local function is_sure(tvb, h)
    if h.kind == "keepalive" or h.kind == "handshake" or h.kind == "fin" then
        if not h.zero or h.flags > 4 then
            return false
        end
        return h.sealed and all_zero(tvb, h.fec_at, 4) and tvb(1, 1):uint() == 0 and h.payload <= 64
            or h.version == 1 and h.payload == 0
    end
    if not h.sealed or h.flags % 8 ~= 0 or tvb(1, 1):uint() ~= 0 or h.payload == 0 then
        return false
    end
    if h.src_port == 0 or h.dst_port == 0 or all_zero(tvb, PREFIX_BYTES, h.address_bytes) then
        return false
    end
    local first, second = tvb(h.fec_at, 1):uint(), tvb(h.fec_at + 1, 1):uint()
    if h.kind == "repair" then
        return (first == 0x40 or first == 0x50) and second >= 1 and second <= LARGEST_WINDOW
            and h.payload >= 4
    end
    return first == 0 and second == 0
end

tunnel:register_heuristic("udp", function(tvb, pinfo, root)
    local h = read_header(tvb)
    if h == nil then
        return false
    end
    h.kind = kind_of(tvb, h)
    local ends = {
        ("%s %d"):format(tostring(pinfo.net_src), pinfo.src_port),
        ("%s %d"):format(tostring(pinfo.net_dst), pinfo.dst_port),
    }
    if is_sure(tvb, h) then
        for _, name in ipairs(ends) do
            known[name] = math.min(known[name] or pinfo.number, pinfo.number)
        end
    elseif (known[ends[1]] or math.huge) > pinfo.number
        and (known[ends[2]] or math.huge) > pinfo.number then
        return false
    end
    tunnel.dissector(tvb, pinfo, root)
    return true
end)

-- Control --------------------------------------------------------------------------------------

local TYPES = {
    [0x01] = "Ping", [0x02] = "Pong", [0x03] = "Register", [0x04] = "RegisterAck",
    [0x05] = "Disconnect", [0x06] = "ServerInfo", [0x10] = "Probe", [0x11] = "ProbeResult",
    [0x12] = "PeersRequest", [0x13] = "Peers", [0x14] = "Rekey",
}
local REASONS = {
    [0] = "normal", [1] = "timeout", [2] = "server shutdown", [3] = "rate limited",
    [4] = "authentication failed",
}
local REFUSALS = {
    [1] = "unknown token", [2] = "invite expired", [3] = "invite revoked",
    [4] = "too many sessions on this invite", [5] = "node full", [6] = "draining",
    [7] = "no common header version", [8] = "no credential", [9] = "session ended",
    [10] = "asked too often",
}
local METHODS = {
    [0] = "nothing answered", [1] = "game query", [2] = "ICMP", [3] = "TCP", [4] = "passive",
}
local CHOICES = { [1] = "plain", [2] = "XOR repair", [8] = "sealed, 8 and 9" }
local SCHEMES = {
    [1] = "window XOR", [2] = "window GF(256)", [3] = "receiver reports", [4] = "NACK",
}
local FEATURES = { [1] = "understands the node's stream" }
local CAPABILITIES = {
    [1] = "node stream", [2] = "probe", [3] = "peers", [4] = "rekey", [5] = "IPv6 inside",
}
local MODES = { [0] = "no repair", [1] = "a plan that stays", [2] = "adapts to reports" }
local MOST_PROBES = 10 -- in one Probe
local RESUMED = { [0] = "a new session", [1] = "the old session goes on" }

local function u8(name, text, values)
    return ProtoField.uint8("lightspeed.control." .. name, text, base.DEC, values)
end

local function u16(name, text)
    return ProtoField.uint16("lightspeed.control." .. name, text)
end

local function u32(name, text)
    return ProtoField.uint32("lightspeed.control." .. name, text)
end

local function u64(name, text)
    return ProtoField.uint64("lightspeed.control." .. name, text)
end

local function str(name, text)
    return ProtoField.string("lightspeed.control." .. name, text)
end

local function raw_bytes(name, text)
    return ProtoField.bytes("lightspeed.control." .. name, text)
end

local C = {
    length = u16("length", "Length"),
    type = ProtoField.uint8("lightspeed.control.type", "Type", base.HEX, TYPES),
    timestamp = u64("timestamp", "Timestamp (microseconds)"),
    client_timestamp = u64("client_timestamp", "Client's timestamp (microseconds)"),
    server_timestamp = u64("server_timestamp", "Node's timestamp (microseconds)"),
    protocol_version = u8("protocol_version", "Protocol version"),
    game = u8("game", "Game (0 unknown)"),
    session = u32("session", "Session id"),
    token = u8("token", "Session token"),
    node_id = str("node_id", "Node id"),
    region = str("region", "Region"),
    reason = u8("reason", "Reason", REASONS),
    load = u8("load", "Load (%)"),
    clients = u32("clients", "Active clients"),
    capacity = u32("capacity", "Capacity"),
    count = u8("count", "Count"),
    port = u16("port", "Port"),
    address = ProtoField.ipv4("lightspeed.control.address", "Address"),
    address6 = ProtoField.ipv6("lightspeed.control.address6", "Address"),
    method = u8("method", "Method", METHODS),
    sent = u8("sent", "Sent"),
    answered = u8("answered", "Answered"),
    min = u32("min", "Shortest round trip (microseconds)"),
    median = u32("median", "Median round trip (microseconds)"),
    peer = ProtoField.none("lightspeed.control.peer", "Peer"),
    host = str("host", "Host"),
    pin = raw_bytes("pin", "Pin, SHA-256 of the public key"),
    epoch = u8("epoch", "Epoch"),
    key = raw_bytes("key", "Session key"),
    string_length = u8("string_length", "Length"),
    trailing = raw_bytes("trailing", "Bytes after the known fields, ignored"),
    tlv = raw_bytes("tlv", "TLV"),
    tag = u8("tlv.tag", "Tag"),
    tlv_length = u16("tlv.length", "Length"),
    value = raw_bytes("tlv.value", "Value of an unknown tag, skipped"),
    credential = raw_bytes("credential", "Credential"),
    version = u8("version", "Header version", CHOICES),
    scheme = u8("fec", "FEC scheme", SCHEMES),
    resume = raw_bytes("resume", "Resume secret"),
    resume_s = u32("resume_s", "Good for (seconds after the last sign of life)"),
    client = str("client", "Client's version"),
    feature = u8("feature", "Feature", FEATURES),
    mode = u8("protection.mode", "Loss repair it wants", MODES),
    every = u8("protection.every", "Packets per repair"),
    window = u8("protection.window", "Window, packets covered"),
    stride = u8("protection.stride", "Stride"),
    field = u8("protection.field", "Arithmetic", FEC_FIELDS),
    delay = u8("protection.delay", "Delay (packets)"),
    target = u32("protection.target", "May be missing, in a million packets"),
    budget = u16("protection.budget_ms", "After (milliseconds)"),
    cap = u16("protection.cap", "Most bytes in all, in hundredths of the game's (0: not said)"),
    rate = u32("protection.cap_kbps", "Most kbit/s in all (0: any)"),
    reports = u16("reports_ms", "Wants a report each (milliseconds; 0: none)"),
    data_host = str("data_host", "Data host (empty: the control host)"),
    data_port = u16("data_port", "Data port"),
    packets = u32("packets_per_s", "Packets per second"),
    bytes = u32("bytes_per_s", "Bytes per second"),
    largest = u16("largest_datagram", "Largest tunnel datagram (bytes)"),
    capability = u8("capability", "Capability", CAPABILITIES),
    resumed = u8("resumed", "Resumed", RESUMED),
    refusal = u8("refusal", "Refusal", REFUSALS),
    text = str("text", "Text"),
}
control.fields = C

local Y = {
    short = malformed("lightspeed.control.short", "Too short"),
    type = malformed("lightspeed.control.unknown_type", "Unknown message"),
    tlv = malformed("lightspeed.control.bad_tlv", "TLV against the rules"),
    utf8 = malformed("lightspeed.control.bad_utf8", "Not UTF-8"),
    value = malformed("lightspeed.control.bad_value", "Value against the rules"),
    capture = by_capture("lightspeed.control.cut"),
}
control.experts = Y

-- RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF.
local function is_utf8(text)
    local at = 1
    while at <= #text do
        local first, second = text:byte(at, at + 1)
        local more = first < 0x80 and 0 or first >= 0xc2 and first < 0xe0 and 1
            or first >= 0xe0 and first < 0xf0 and 2 or first >= 0xf0 and first < 0xf5 and 3
        if not more or not text:find("^" .. ("[\128-\191]"):rep(more), at + 1) then
            return false
        end
        if first == 0xe0 and second < 0xa0 or first == 0xed and second > 0x9f
            or first == 0xf0 and second < 0x90 or first == 0xf4 and second > 0x8f then
            return false
        end
        at = at + 1 + more
    end
    return true
end

-- Reads fields one behind the other from `at` up to `stop`. Once something was cut, `take` and all
-- that stand on it give nil, and nothing more is added.
local Reader = {}
Reader.__index = Reader

local function read(tvb, at, stop, tree, cut)
    return setmetatable({ tvb = tvb, at = at, stop = stop, tree = tree, cut = cut }, Reader)
end

function Reader:left()
    return self.broken and 0 or self.stop - self.at
end

function Reader:take(size, what)
    if self.broken then
        return nil
    elseif self.stop - self.at < size then
        self.broken = true
        local text = ("%s needs %d bytes, %d are left"):format(what, size, self.stop - self.at)
        self.tree:add_proto_expert_info(self.cut and Y.capture or Y.short, text)
        return nil
    end
    local range = self.tvb(self.at, size)
    self.at = self.at + size
    return range
end

function Reader:number(field, size, what)
    local range = self:take(size, what)
    if range then
        self.tree:add(field, range)
        return size < 8 and range:uint() or 0
    end
    return nil
end

-- A string of `size` bytes; for a string with its length in front, leave `size` out.
function Reader:string(field, what, size)
    local first = self.at
    if not size then
        local range = self:take(1, what)
        size = range and range:uint()
    end
    local range = size and size > 0 and self:take(size, what)
    if not range then
        if size == 0 then
            self.tree:add(field, self.tvb(first, self.at - first), "")
        end
        return not self.broken and "" or nil
    end
    local item = self.tree:add_packet_field(field, range, ENC_UTF_8)
    local raw = range:raw() -- range:string() may end inside a character
    if not is_utf8(raw) then
        item:add_proto_expert_info(Y.utf8, what .. " is not UTF-8")
        return "?"
    end
    return (raw:gsub("%c", "."))
end

local function dotted(range)
    return tostring(range:len() == 4 and range:ipv4() or range:ipv6())
end

local function add_address(tree, range)
    tree:add(range:len() == 4 and C.address or C.address6, range)
end

-- TLVs: what the length may be, and how the value is shown. A list shows every byte of its value.
local function list(field)
    return function(reader, size)
        for _ = 1, size do
            reader:number(field, 1, "entry")
        end
    end
end

local function plain(field)
    return function(reader, size)
        reader.tree:add(field, reader:take(size, "value"))
    end
end

local function text_of(field, what)
    return function(reader, size)
        reader:string(field, what, size)
    end
end

local function address(reader, size)
    add_address(reader.tree, reader:take(size, "address"))
end

local function data_socket(reader, size)
    reader:number(C.data_port, 2, "port")
    if size > 2 then
        reader:string(C.data_host, "host", size - 2)
    end
end

local function limits(reader)
    reader:number(C.packets, 4, "packets per second")
    reader:number(C.bytes, 4, "bytes per second")
    reader:number(C.largest, 2, "largest datagram")
end

local function resume(reader)
    reader.tree:add(C.resume, reader:take(16, "resume secret"))
    reader:number(C.resume_s, 4, "seconds")
end

-- What is wrong with a plan, in words; nil if nothing is.
local function plan_trouble(every, window, stride, field, delay)
    if every == 0 then
        return "A repair after 0 packets"
    elseif window == 0 or window > LARGEST_WINDOW then
        return ("The window is %d; it goes from 1 to %d"):format(window, LARGEST_WINDOW)
    elseif stride == 0 or stride > LARGEST_STRIDE then
        return ("The stride is %d; it goes from 1 to %d"):format(stride, LARGEST_STRIDE)
    elseif field > 1 then
        return "Arithmetic is neither XOR nor GF(256)"
    elseif (window - 1) * stride + delay >= LARGEST_REACH then
        return ("The plan reaches over more than %d packets"):format(LARGEST_REACH)
    end
    return nil
end

local function between(value, least, most, what)
    if least <= value and value <= most then
        return nil
    end
    return ("%s is %d; it goes from %d to %d"):format(what, value, least, most)
end

local function protection(reader)
    local mode = reader:number(C.mode, 1, "mode")
    local plan = {}
    for i, field in ipairs({ C.every, C.window, C.stride, C.field, C.delay }) do
        plan[i] = reader:number(field, 1, "plan")
    end
    local target = reader:number(C.target, 4, "target")
    local budget = reader:number(C.budget, 2, "budget")
    local cap = reader:number(C.cap, 2, "cap")
    local rate = reader:number(C.rate, 4, "rate")
    local words = MODES[mode] or "unknown"
    if mode == 1 then
        local form = "1 repair per %d packets over %d, %d apart, %s, %d later"
        words = form:format(plan[1], plan[2], plan[3], FEC_FIELDS[plan[4]] or "?", plan[5])
    elseif mode == 2 then
        words = ("%s, at most %g %% missing after %d ms"):format(words, target / 10000, budget)
    end
    if mode ~= 0 and cap > 0 then
        words = ("%s, cap %.2fx"):format(words, cap / 100)
    end
    if mode ~= 0 and rate > 0 then
        words = ("%s, cap %d kbit/s"):format(words, rate)
    end
    reader.tree:append_text(": " .. words)
    local wrong = between(mode, 0, 2, "The mode")
        or mode == 1 and plan_trouble(plan[1], plan[2], plan[3], plan[4], plan[5])
        or between(target, 1, 999999, "The target")
        or between(budget, 5, 1000, "The budget")
        or cap > 0 and between(cap, 100, 10000, "The cap")
    if wrong then
        reader.tree:add_proto_expert_info(Y.tlv, wrong)
    end
end

local function reports(reader)
    local ms = reader:number(C.reports, 2, "interval")
    reader.tree:append_text(ms == 0 and ": none" or (": each %d ms"):format(ms))
end

local function tlv(name, least, most, show)
    return { name = name, least = least, most = most, show = show }
end

local REGISTER_TLVS = {
    [0x01] = tlv("credential", 32, 32, plain(C.credential)),
    [0x02] = tlv("versions", 1, 8, list(C.version)),
    [0x03] = tlv("fec", 0, 8, list(C.scheme)),
    [0x04] = tlv("resume", 16, 16, plain(C.resume)),
    [0x05] = tlv("client", 1, 32, text_of(C.client, "client")),
    [0x06] = tlv("features", 0, 8, list(C.feature)),
    [0x07] = tlv("protection", 18, 18, protection),
    [0x08] = tlv("reports", 2, 2, reports),
}
local ACK_TLVS = {
    [0x01] = tlv("version", 1, 1, list(C.version)),
    [0x02] = tlv("key", 16, 16, plain(C.key)),
    [0x03] = tlv("data", 2, 257, data_socket),
    [0x04] = tlv("fec", 0, 8, list(C.scheme)),
    [0x05] = tlv("limits", 10, 10, limits),
    [0x06] = tlv("visible", 4, 16, address),
    [0x07] = tlv("capabilities", 0, 16, list(C.capability)),
    [0x08] = tlv("resume", 20, 20, resume),
    [0x09] = tlv("resumed", 1, 1, list(C.resumed)),
}
ACK_TLVS[0x06].either = true -- 4 or 16, nothing between
local DISCONNECT_TLVS = {
    [0x01] = tlv("refusal", 1, 1, list(C.refusal)),
    [0x02] = tlv("text", 1, 200, text_of(C.text, "text")),
}

local function size_fits(known_tlv, size)
    if known_tlv.either then
        return size == known_tlv.least or size == known_tlv.most
    end
    return known_tlv.least <= size and size <= known_tlv.most
end

-- Returns the values that the info column may want, by the name of their TLV.
local function add_tlvs(reader, known_tlvs)
    local seen = {}
    while reader:left() > 0 do
        local start = reader.at
        local head = reader:take(3, "TLV")
        local size = head and head(1, 2):uint()
        local tag = head and head(0, 1):uint()
        local known_tlv = tag and known_tlvs[tag]
        local name = known_tlv and known_tlv.name or "unknown"
        local value_at = reader.at
        if not head or size > 0 and not reader:take(size, "TLV " .. name) then
            return seen
        end
        local item = reader.tree:add(C.tlv, reader.tvb(start, 3 + size))
        item:set_text(("TLV %s, %d bytes"):format(name, size))
        item:add(C.tag, head(0, 1)):append_text((" (%s)"):format(name))
        item:add(C.tlv_length, head(1, 2))
        if seen[tag] then
            item:add_proto_expert_info(Y.tlv, ("Tag %d comes twice"):format(tag))
        elseif known_tlv and not size_fits(known_tlv, size) then
            local text = known_tlv.either and "want %d or %d bytes, got %d"
                or "want %d to %d bytes, got %d"
            text = text:format(known_tlv.least, known_tlv.most, size)
            item:add_proto_expert_info(Y.tlv, name .. ": " .. text)
        elseif known_tlv and size > 0 then
            known_tlv.show(read(reader.tvb, value_at, reader.at, item, false), size)
        elseif size > 0 then
            item:add(C.value, reader.tvb(value_at, size))
        end
        seen[tag] = size > 0 and reader.tvb(value_at, size) or true
    end
    return seen
end

local function words_of(value, names)
    return names[value] or tostring(value)
end

local function first_byte(range)
    return type(range) == "userdata" and range(0, 1):uint() or nil
end

-- One function for each message: reads its fields, returns words for the info column.
local READ = {}

READ[0x01] = function(reader)
    reader:number(C.timestamp, 8, "timestamp")
end

READ[0x02] = function(reader)
    reader:number(C.client_timestamp, 8, "client's timestamp")
    reader:number(C.server_timestamp, 8, "node's timestamp")
end

READ[0x03] = function(reader)
    reader:number(C.protocol_version, 1, "protocol version")
    local game = reader:number(C.game, 1, "game")
    add_tlvs(reader, REGISTER_TLVS)
    return game and ("game %d"):format(game)
end

READ[0x04] = function(reader)
    local session = reader:number(C.session, 4, "session id")
    reader:number(C.token, 1, "session token")
    reader:string(C.node_id, "node id")
    reader:string(C.region, "region")
    local version = first_byte(add_tlvs(reader, ACK_TLVS)[0x01])
    return session
        and ("session %d%s"):format(session, version and " version " .. version or "")
end

READ[0x05] = function(reader)
    local reason = reader:number(C.reason, 1, "reason")
    local refusal = first_byte(add_tlvs(reader, DISCONNECT_TLVS)[0x01])
    return reason and words_of(reason, REASONS)
        .. (refusal and " (" .. words_of(refusal, REFUSALS) .. ")" or "")
end

READ[0x06] = function(reader)
    reader:number(C.load, 1, "load")
    reader:number(C.clients, 4, "active clients")
    reader:number(C.capacity, 4, "capacity")
end

READ[0x10] = function(reader)
    reader:number(C.game, 1, "game")
    local count = reader:number(C.count, 1, "count")
    if count and (count == 0 or count > MOST_PROBES) then
        local text = ("%d times; want 1 to %d"):format(count, MOST_PROBES)
        reader.tree:add_proto_expert_info(Y.value, text)
    end
    local port = reader:number(C.port, 2, "port")
    local size = reader:take(1, "address")
    if not size then
        return nil
    end
    if size:uint() ~= 4 and size:uint() ~= 16 then
        reader.broken = true
        local text = ("An address of %d bytes; want 4 or 16"):format(size:uint())
        reader.tree:add_proto_expert_info(Y.value, text)
        return nil
    end
    local range = reader:take(size:uint(), "address")
    if not range then
        return nil
    end
    add_address(reader.tree, range)
    local form = range:len() == 4 and "%s:%d %d times" or "[%s]:%d %d times"
    return form:format(dotted(range), port, count)
end

READ[0x11] = function(reader)
    local method = reader:number(C.method, 1, "method")
    reader:number(C.sent, 1, "sent")
    reader:number(C.answered, 1, "answered")
    reader:number(C.min, 4, "shortest round trip")
    local median = reader:number(C.median, 4, "median round trip")
    return median and ("%s, median %d us"):format(words_of(method, METHODS), median)
end

READ[0x12] = function() end

READ[0x13] = function(reader)
    local count = reader:number(C.count, 1, "count")
    for _ = 1, count or 0 do
        if reader:left() == 0 then
            reader:take(1, "peer")
            break
        end
        local start, outer = reader.at, reader.tree
        local item = outer:add(C.peer, reader.tvb(start, reader.stop - start))
        reader.tree = item
        local name = reader:string(C.node_id, "node id")
        reader:string(C.region, "region")
        reader:string(C.host, "host")
        reader:number(C.port, 2, "control port")
        local pin = reader:take(32, "pin")
        if pin then
            item:add(C.pin, pin)
        end
        item:set_len(reader.at - start)
        item:append_text(": " .. (name or ""))
        reader.tree = outer
    end
    return count and ("%d known"):format(count)
end

READ[0x14] = function(reader)
    local epoch = reader:number(C.epoch, 1, "epoch")
    local key = reader:take(16, "key")
    if key then
        reader.tree:add(C.key, key)
    end
    return epoch and (epoch == 0 and "asked for" or ("epoch %d"):format(epoch))
end

-- One frame from `at`; `size` counts type and fields. Returns words for the info column.
local function add_frame(tvb, at, size, root, cut)
    local stop = at + 2 + size
    local tree = root:add(control, tvb(at, 2 + size))
    tree:add(C.length, tvb(at, 2))
    local item = tree:add(C.type, tvb(at + 2, 1))
    local code = tvb(at + 2, 1):uint()
    local name = TYPES[code]
    if not name then
        item:add_proto_expert_info(Y.type, ("Type 0x%02x is no message"):format(code))
        if size > 1 then
            tree:add(C.trailing, tvb(at + 3, size - 1))
        end
        return ("unknown 0x%02x"):format(code)
    end
    local reader = read(tvb, at + 3, stop, tree, cut)
    local words = READ[code](reader)
    if reader:left() > 0 then
        tree:add(C.trailing, tvb(reader.at, reader:left()))
    end
    local text = words and name .. " " .. words or name
    tree:append_text(", " .. text)
    return text
end

-- True if bytes that are missing may still come: asks TCP for `missing` more of them.
local function ask_for_more(tvb, pinfo, at, missing)
    if pinfo.can_desegment == 0 or tvb:reported_len() > tvb:len() then
        return false
    end
    pinfo.desegment_offset = at
    pinfo.desegment_len = missing
    return true
end

local function add_broken(tvb, at, root, what, cut)
    local tree = root:add(control, tvb(at))
    tree:add_proto_expert_info(cut and Y.capture or Y.short, what)
    return what
end

-- Every frame in these bytes. Returns the words of all of them, for the info column.
local function add_frames(tvb, pinfo, root)
    local at, length, all = 0, tvb:len(), {}
    local cut = tvb:reported_len() > length
    while at < length do
        local left = length - at
        if left < 2 then
            if not ask_for_more(tvb, pinfo, at, DESEGMENT_ONE_MORE_SEGMENT) then
                all[#all + 1] = add_broken(tvb, at, root, "Ends inside a length", cut)
            end
            break
        end
        local size = tvb(at, 2):uint()
        if size == 0 then
            all[#all + 1] = add_broken(tvb, at, root, "A length of 0: not even a type")
            break
        elseif left < 2 + size then
            if not ask_for_more(tvb, pinfo, at, 2 + size - left) then
                local text = "Ends inside a message: %d of %d bytes"
                text = text:format(left - 2, size)
                all[#all + 1] = add_broken(tvb, at, root, text, cut)
            end
            break
        end
        all[#all + 1] = add_frame(tvb, at, size, root, cut)
        at = at + 2 + size
    end
    return table.concat(all, ", ")
end

-- QUIC -----------------------------------------------------------------------------------------
--
-- What is ours is told by the ALPN seen in the handshake. The data of STREAM frames is taken from
-- what the QUIC dissector shows once it is done with a packet, and put together here. So it works
-- for the original program too, which offers no ALPN, and with builds whose own reassembly drops a
-- message that two packets carry (Debian's 4.0.17-0+deb12u3 does).

local ALPN = "lightspeed/1"
local MOST_WAITING = 64 -- chunks of one stream that came before their turn

local quic_number = Field.new("quic.connection.number")
local quic_id = Field.new("quic.stream.stream_id")
local quic_fin = Field.new("quic.stream.fin")
local quic_has_offset = Field.new("quic.stream.off")
local quic_offset = Field.new("quic.stream.offset")
local quic_data = Field.new("quic.stream_data")
local tls_alpn = Field.new("tls.handshake.extensions_alpn_str")

local quic_ports = {}
local connections = {} -- by Wireshark's number: { alpn, streams }
local shown = {} -- by packet: what the first look at it found, for every later look

function control.init()
    connections = {}
    shown = {}
end

local function connection()
    local number = quic_number()
    if not number then
        return nil
    end
    local name = tostring(number.value)
    connections[name] = connections[name] or { streams = {} }
    return connections[name]
end

-- Adds one chunk to a stream; a chunk from before its turn waits, what came before is left out.
local function add_chunk(stream, offset, raw)
    if offset > stream.at then
        if stream.waiting_count < MOST_WAITING and not stream.waiting[offset] then
            stream.waiting[offset] = raw
            stream.waiting_count = stream.waiting_count + 1
        end
        return
    end
    local new = raw:sub(stream.at - offset + 1)
    stream.bytes = stream.bytes .. new
    stream.at = stream.at + #new
    for later, waiting in pairs(stream.waiting) do
        if later <= stream.at then
            stream.waiting[later] = nil
            stream.waiting_count = stream.waiting_count - 1
            return add_chunk(stream, later, waiting)
        end
    end
end

-- Takes the frames that are whole out of the stream; at the stream's end whatever is left.
local function take_frames(stream)
    local bytes, at = stream.bytes, 1
    while #bytes - at >= 2 do
        local size = bytes:byte(at) * 256 + bytes:byte(at + 1)
        if size == 0 or not stream.sure and not TYPES[bytes:byte(at + 2)] then
            stream.over = true
            at = stream.sure and #bytes + 1 or at
            break
        elseif at + 2 + size > #bytes + 1 then
            break
        end
        at = at + 2 + size
    end
    if stream.final == stream.at and at <= #bytes and not stream.over then
        at = #bytes + 1
    end
    stream.bytes = bytes:sub(at)
    return bytes:sub(1, at - 1)
end

-- The control frames that this packet completes: a list of their bytes, stream by stream.
local function read_streams(pinfo, found)
    local offsets, next_offset, all = { quic_offset() }, 1, {}
    local fins, has_offsets, chunks = { quic_fin() }, { quic_has_offset() }, { quic_data() }
    for i, id in ipairs({ quic_id() }) do
        local chunk = chunks[i]
        if not chunk then
            break
        end
        local offset = 0
        if has_offsets[i].value then
            offset = tonumber(tostring(offsets[next_offset].value))
            next_offset = next_offset + 1
        end
        local raw = chunk.len > 0 and chunk.range:raw() or ""
        local name = ("%s %d %s"):format(tostring(pinfo.src), pinfo.src_port, tostring(id.value))
        local stream = found.streams[name]
        if not stream then
            stream = { at = 0, bytes = "", waiting = {}, waiting_count = 0 }
            stream.sure = found.alpn == ALPN
            found.streams[name] = stream
        end
        if fins[i].value then
            stream.final = offset + #raw
        end
        if not stream.over then
            add_chunk(stream, offset, raw)
            local frames = take_frames(stream)
            if frames ~= "" then
                all[#all + 1] = frames
            end
        end
    end
    return all
end

function in_quic.dissector(_, pinfo, root)
    local found = connection()
    if not found then
        return
    end
    -- Not `visited`: the first look may have come without fields (tshark -2).
    if shown[pinfo.number] == nil then
        for _, offered in ipairs({ tls_alpn() }) do
            found.alpn = tostring(offered.value) -- the node's choice comes last
        end
        local port = is_in(quic_ports, pinfo.dst_port) or is_in(quic_ports, pinfo.src_port)
        if found.alpn == ALPN or port and not found.alpn then
            shown[pinfo.number] = read_streams(pinfo, found)
        end
    end
    for _, frames in ipairs(shown[pinfo.number] or {}) do
        local tvb = ByteArray.new(frames, true):tvb("LightSpeed control stream")
        pinfo.cols.info:append(", " .. add_frames(tvb, pinfo, root))
        pinfo.cols.protocol:set("LightSpeed/C")
    end
end

register_postdissector(in_quic)

function control.dissector(tvb, pinfo, root)
    local text = add_frames(tvb, pinfo, root)
    if text ~= "" then
        pinfo.cols.info:set(text)
    end
    pinfo.cols.protocol:set("LightSpeed/C")
    return tvb:len()
end

DissectorTable.get("tcp.port"):add_for_decode_as(control)

-- Ports ----------------------------------------------------------------------------------------

local udp = DissectorTable.get("udp.port")
local added = {}

-- Put `proto` on these ports instead of those it had.
local function listen(proto, text)
    text = tostring(text)
    if added[proto.name] then
        udp:remove(added[proto.name], proto)
    end
    added[proto.name] = text ~= "" and text or nil
    if added[proto.name] then
        udp:add(text, proto)
    end
end

local function read_ports()
    tunnel_ports = ranges(tunnel.prefs.tunnel_ports)
    quic_ports = ranges(tunnel.prefs.quic_ports)
    listen(tunnel, tunnel.prefs.tunnel_ports)
    listen(control, tunnel.prefs.plain_ports)
end

tunnel.prefs_changed = read_ports
udp:add_for_decode_as(tunnel)
udp:add_for_decode_as(control)
read_ports()
