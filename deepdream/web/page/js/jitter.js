// The random numbers of NumPy's RandomState (MT19937), so that a seed gives the same jitter as in Python.

const N = 624;

function seeded(seed) {
  const key = new Uint32Array(N);
  for (let i = 0; i < N; i++) {
    key[i] = seed;
    seed = (Math.imul(1812433253, seed ^ (seed >>> 30)) + i + 1) >>> 0;
  }
  return key;
}

function seededByArray(seeds) {
  const key = seeded(19650218);
  let i = 1, j = 0;
  const advance = () => {
    if (++i === N) {
      key[0] = key[N - 1];
      i = 1;
    }
  };
  const mixed = () => key[i - 1] ^ (key[i - 1] >>> 30);
  for (let k = Math.max(N, seeds.length); k; k--) {
    key[i] = (key[i] ^ Math.imul(mixed(), 1664525)) + seeds[j] + j;
    advance();
    j = (j + 1) % seeds.length;
  }
  for (let k = N - 1; k; k--) {
    key[i] = (key[i] ^ Math.imul(mixed(), 1566083941)) - i;
    advance();
  }
  key[0] = 0x80000000;
  return key;
}

// RandomState(seed): seed is a whole number from 0 to 2^32 - 1, or an array of them.
export class RandomState {
  constructor(seed) {
    this.key = Array.isArray(seed) ? seededByArray(seed) : seeded(seed);
    this.position = N;
  }

  uint32() {
    if (this.position === N) this.refill();
    let y = this.key[this.position++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  refill() {
    const {key} = this;
    for (let i = 0; i < N; i++) {
      const y = (key[i] & 0x80000000) | (key[(i + 1) % N] & 0x7fffffff);
      key[i] = key[(i + 397) % N] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    this.position = 0;
  }

  // randint(low, high): a whole number from low to high - 1, for a range of less than 2^32.
  randint(low, high) {
    const range = high - 1 - low;
    if (range === 0) return low;
    const mask = 0xffffffff >>> Math.clz32(range);
    for (;;) {
      const value = (this.uint32() & mask) >>> 0;
      if (value <= range) return low + value;
    }
  }
}
