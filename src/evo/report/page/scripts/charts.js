// Linear and logarithmic axes for the pictures that scripts draw.

/** A function from values to places between `start` and `end`; logarithmic where they span more than a factor of 20.
 * `margin` is left around them, as a share of their range. */
function scaleOver(values, start, end, margin = 0.06) {
  const low = Math.min(...values), high = Math.max(...values);
  const isLog = low > 0 && high / low > 20;
  const of = isLog ? Math.log : (value) => value;
  const room = margin * (of(high) - of(low));
  const spread = of(high) > of(low) ? room : Math.abs(of(high)) * 0.1 || 0.5;
  const first = of(low) - spread, last = of(high) + spread;
  const scale = (value) => start + ((of(value) - first) / (last - first)) * (end - start);
  const back = (place) => first + ((place - start) / (end - start)) * (last - first);
  scale.inverse = isLog ? (place) => Math.exp(back(place)) : back;
  scale.low = isLog ? Math.exp(first) : first;
  scale.high = isLog ? Math.exp(last) : last;
  scale.isLog = isLog;
  return scale;
}

/** About `count` round numbers within a scale. */
function ticksOf(scale, count = 4) {
  if (scale.isLog) {
    const found = [];
    for (let power = Math.floor(Math.log10(scale.low)); 10 ** power <= scale.high; power += 1) {
      found.push(...[1, 2, 5].map((factor) => factor * 10 ** power));
    }
    const inside = found.filter((tick) => scale.low <= tick && tick <= scale.high);
    const decades = inside.filter((tick) => Number.isInteger(Math.round(Math.log10(tick) * 1e9) / 1e9));
    return inside.length > 2 * count && decades.length > 1 ? decades : inside;
  }
  const rough = (scale.high - scale.low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= rough * (1 - 1e-9));
  const first = Math.ceil(scale.low / step), last = Math.floor(scale.high / step);
  return Array.from({ length: last - first + 1 }, (_, index) => (first + index) * step);
}

/** A tick's number, with as many places as it needs. */
function tickText(value) {
  return Math.abs(value) >= 1000 ? short(value) : minus(String(Number(value.toPrecision(6))));
}
