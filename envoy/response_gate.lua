-- The response gate: the first filter of the list, so the last to see a response, after ext_proc let its head go.
--
-- It lets a response through only if
--   (a) the request was never let on to an upstream: then this is a reply of Envoy's own or of the gate's, or
--   (b) the gate has said "released" after recording what is in it. Where it streams, the gate says another word
--       ("piece") with each piece that it lets on; bytes that come on the word of the piece before are emptied.
-- Anything else means that ext_proc ended its stream without an answer (a clean close passes by design, see
-- external_processor.proto) or failed half way: nothing of the upstream may reach the caller.
--
-- `body` makes Envoy hold the response until it is complete, so nothing of it leaves before it is replaced. Larger
-- than the listener's buffer it becomes Envoy's own error; never ending, the route's idle timeout ends it.
local REFUSAL = '{"type":"error","error":{"type":"api_error","code":"response_not_released",' ..
  '"message":"The model\'s answer was not released by the gateway."}}'

local function drop(fields, keep_pseudo)
  local names = {} -- collected first: fields may not change while they are walked through
  for name, _ in pairs(fields) do
    if not (keep_pseudo and name:sub(1, 1) == ":") then
      names[#names + 1] = name
    end
  end
  for _, name in ipairs(names) do
    fields:remove(name)
  end
end

local function drop_trailers(handle)
  local trailers = handle:trailers()
  if trailers ~= nil then
    drop(trailers, false)
  end
end

local function words(handle)
  return handle:streamInfo():dynamicMetadata():get("affidavit") or {}
end

local function pass_piece_by_piece(handle)
  local word = "0" -- the head's; not read here: a short answer's body may be let on before we see its head (measured)
  for chunk in handle:bodyChunks() do
    local new = words(handle)["piece"]
    if new == word and chunk:length() > 0 then
      chunk:setBytes("") -- ext_proc ended its stream half way
    end
    word = new
  end
end

function envoy_on_response(handle)
  local said = words(handle)
  if said["decision"] ~= "allow" then
    return
  end
  if said["response"] == "released" then
    if said["piece"] ~= nil then
      pass_piece_by_piece(handle)
    end
    drop_trailers(handle) -- HTTP/2 services send them; nobody inspects them, so nobody gets them
    return
  end
  local headers = handle:headers() -- fetched again after body(): waiting ends their scope (measured)
  drop(headers, true)
  headers:replace(":status", "502")
  headers:replace("content-type", "application/json")
  -- No body to replace (HEAD, 204): none is put there, a body after HEAD would be read as the next response.
  headers:replace("content-length", "0")
  local body = handle:body()
  if body ~= nil then
    handle:headers():replace("content-length", tostring(body:setBytes(REFUSAL)))
  end
  drop_trailers(handle)
end
