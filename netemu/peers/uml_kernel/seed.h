/* SPDX-License-Identifier: MIT
 *
 * Random numbers that repeat. With UML_SEED in the environment, a decimal number, what the kernel would ask the machine's getrandom(2)
 * for is the output of SplitMix64 from that seed (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
 */
#include <stdlib.h>
#include <string.h>

static ssize_t seeded_getrandom(void *buffer, size_t length, unsigned int flags)
{
	static unsigned long long state;
	static const char *seed;
	size_t done, part;

	if (!seed) {
		seed = getenv("UML_SEED");
		if (!seed)
			return getrandom(buffer, length, flags);
		state = strtoull(seed, NULL, 10);
	}
	for (done = 0; done < length; done += part) {
		unsigned long long word = state += 0x9e3779b97f4a7c15ULL;

		word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9ULL;
		word = (word ^ (word >> 27)) * 0x94d049bb133111ebULL;
		word ^= word >> 31;
		part = length - done < sizeof(word) ? length - done : sizeof(word);
		memcpy((char *)buffer + done, &word, part);
	}
	return length;
}
